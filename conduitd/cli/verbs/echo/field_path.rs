//! Paths to values inside messages: the argument of `--field`.

use std::fmt;

use conduit::Shape;
use conduit::shape::{Element, Field};

use crate::suggestion::nearest;

/// The way to a value inside a message: `pose.position[2]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldPath(pub(super) Vec<PathStep>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Field(String),
    Index(usize),
}

impl std::str::FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "a field is something like pose.position, gyro[2] or [0].x".to_owned();
        let mut steps = Vec::new();
        for (at, part) in text.split('.').enumerate() {
            let (name, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
            match name {
                "" if at == 0 && !indices.is_empty() => {}
                "" => return Err(bad()),
                name => steps.push(PathStep::Field(name.into())),
            }
            for index in indices.split_inclusive(']') {
                let index = index.strip_prefix('[').and_then(|index| index.strip_suffix(']'));
                steps.push(PathStep::Index(index.and_then(|index| index.parse().ok()).ok_or_else(bad)?));
            }
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Field(name) => write!(f, "{}{name}", if at > 0 { "." } else { "" })?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl FieldPath {
    /// The shape of what the path leads to in messages of a shape, or of slices of it.
    pub(super) fn resolve(&self, shape: &Shape, mut is_slice: bool) -> Result<Shape, String> {
        let mut found = shape.clone();
        for step in &self.0 {
            found = match (step, &found) {
                (PathStep::Index(_), _) if is_slice => found,
                (PathStep::Field(name), _) if is_slice => return Err(format!("a message is a list; write [0].{name}")),
                (PathStep::Index(index), Shape { element, count: Some(count), .. }) if (*index as u64) < *count => {
                    Shape::one(element.clone())
                }
                (PathStep::Index(index), Shape { count: Some(count), .. }) => {
                    return Err(format!("there is no [{index}], the array has {count} elements"));
                }
                (PathStep::Field(name), Shape { element: Element::Struct { fields, .. }, count: None, .. }) => {
                    match fields.iter().find(|field| field.name == *name) {
                        Some(field) => field.shape.clone(),
                        None => return Err(no_field(name, fields)),
                    }
                }
                (PathStep::Field(name), Shape { element: Element::Struct { .. }, count: Some(_), .. }) => {
                    return Err(format!("there is no {name} of an array; write [0].{name}"));
                }
                (PathStep::Field(name), other) => return Err(format!("there is no {name} in a value of type {other}")),
                (PathStep::Index(index), other) => return Err(format!("there is no [{index}] in {other}")),
            };
            is_slice = false;
        }
        Ok(found)
    }
}

fn no_field(name: &str, fields: &[Field]) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    match nearest(name, names.iter().copied()) {
        Some(nearest) => format!("there is no field \"{name}\"; did you mean \"{nearest}\"?"),
        None => format!("there is no field \"{name}\", but {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::View;
    use super::super::value::tests::pose;
    use super::*;

    #[test]
    fn a_path_leads_to_a_value() {
        let (shape, bytes) = pose();
        let view = View::value(&shape, &bytes).unwrap();
        for (path, expected) in
            [("at.y", "2.0"), ("corners[1].x", "1e-7"), ("id", "-7"), ("corners[0]", r#"{"x":3.5,"y":-4.0}"#)]
        {
            let parsed: FieldPath = path.parse().unwrap();
            assert_eq!(parsed.to_string(), path);
            let found = parsed.resolve(&shape, false).unwrap();
            let view = view.select(&parsed).unwrap();
            assert_eq!(found.size(), view.bytes().len() as u64);
            assert_eq!(serde_json::to_string(&view).unwrap(), expected);
        }
        let first: FieldPath = "[1].x".parse().unwrap();
        let points = View::Slice(&shape, &bytes);
        assert!(first.resolve(&shape, true).is_err(), "a pose has no x");
        assert!(points.select(&"[1]".parse().unwrap()).is_none(), "there is one only");
        for bad in ["", ".x", "x..y", "x[", "x[1", "x[a]", "x[1]y"] {
            assert!(bad.parse::<FieldPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wrong_path_says_what_would_be_right() {
        let (shape, _) = pose();
        for (path, is_slice, complaint) in [
            ("corner[0]", false, "there is no field \"corner\"; did you mean \"corners\"?"),
            ("velocity", false, "there is no field \"velocity\", but at, corners, id, ok, key"),
            ("corners.x", false, "write [0].x"),
            ("corners[2]", false, "the array has 2 elements"),
            ("id.x", false, "there is no x in a value of type i16"),
            ("at[0]", false, "there is no [0] in"),
            ("at", true, "a message is a list; write [0].at"),
        ] {
            let error = path.parse::<FieldPath>().unwrap().resolve(&shape, is_slice).unwrap_err();
            assert!(error.contains(complaint), "{path}: {error}");
        }
    }
}
