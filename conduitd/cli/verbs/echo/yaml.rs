//! Values as YAML.

use std::io::{self, Write};

use conduit::shape::Element;

use super::value::{Scalar, View};

/// A value as a document of YAML: structures over several lines, arrays on one.
pub(super) fn write(out: &mut impl Write, view: View<'_>, max_elements: usize) -> io::Result<()> {
    match view {
        View::Slice(shape, _) if shape.count.is_some() || matches!(shape.element, Element::Struct { .. }) => {
            lines(out, view, 0, max_elements)
        }
        view => block(out, view, 0, max_elements),
    }
}

fn block(out: &mut impl Write, view: View<'_>, depth: usize, max_elements: usize) -> io::Result<()> {
    let Some(fields) = view.fields() else {
        flow(out, view, max_elements)?;
        return writeln!(out);
    };
    for (name, value) in fields {
        write!(out, "{:depth$}{name}:", "")?;
        let of_structures =
            value.elements().and_then(|mut elements| elements.next()).is_some_and(|it| it.fields().is_some());
        if value.fields().is_some() {
            writeln!(out)?;
            block(out, value, depth + 2, max_elements)?;
        } else if of_structures {
            writeln!(out)?;
            lines(out, value, depth, max_elements)?;
        } else {
            write!(out, " ")?;
            flow(out, value, max_elements)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// A list with an element per line.
fn lines(out: &mut impl Write, view: View<'_>, depth: usize, max_elements: usize) -> io::Result<()> {
    let Some(elements) = view.elements() else { return Ok(()) };
    let count = elements.len();
    if count == 0 {
        return writeln!(out, "{:depth$}[]", "");
    }
    for element in elements.take(max_elements) {
        write!(out, "{:depth$}- ", "")?;
        flow(out, element, max_elements)?;
        writeln!(out)?;
    }
    if count > max_elements { writeln!(out, "{:depth$}# and {} more", "", count - max_elements) } else { Ok(()) }
}

fn flow(out: &mut impl Write, view: View<'_>, max_elements: usize) -> io::Result<()> {
    if let Some(fields) = view.fields() {
        write!(out, "{{")?;
        for (index, (name, value)) in fields.enumerate() {
            write!(out, "{}{name}: ", if index > 0 { ", " } else { "" })?;
            flow(out, value, max_elements)?;
        }
        return write!(out, "}}");
    }
    let Some(elements) = view.elements() else {
        return match view.scalar() {
            Some(scalar @ Scalar::Bytes(_)) => write!(out, "'{scalar}'"),
            // NaN and infinities as YAML spells them.
            Some(scalar) => write!(out, "{}", scalar.to_string().replace("NaN", ".nan").replace("inf", ".inf")),
            None => Ok(()),
        };
    };
    let count = elements.len();
    write!(out, "[")?;
    for (index, element) in elements.take(max_elements).enumerate() {
        write!(out, "{}", if index > 0 { ", " } else { "" })?;
        flow(out, element, max_elements)?;
    }
    if count > max_elements {
        write!(out, ", '... and {} more'", count - max_elements)?;
    }
    write!(out, "]")
}
