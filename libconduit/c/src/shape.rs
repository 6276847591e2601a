//! What the bytes of a message mean, as a tree of structures for C.

use std::ffi::c_char;
use std::ptr::{from_ref, null};

use conduit::Shape;
use conduit::shape::Element;

use crate::records::CTexts;

/// The type of one value of a message. Later versions may add types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "these are the names in C")]
#[repr(i32)]
pub enum ElementCode {
    /// Bytes of which nothing else is known.
    CONDUIT_ELEMENT_BYTES = 0,
    /// A structure.
    CONDUIT_ELEMENT_STRUCT = 1,
    /// A bool.
    CONDUIT_ELEMENT_BOOL = 2,
    /// A uint8_t.
    CONDUIT_ELEMENT_U8 = 3,
    /// A uint16_t.
    CONDUIT_ELEMENT_U16 = 4,
    /// A uint32_t.
    CONDUIT_ELEMENT_U32 = 5,
    /// A uint64_t.
    CONDUIT_ELEMENT_U64 = 6,
    /// An int8_t.
    CONDUIT_ELEMENT_I8 = 7,
    /// An int16_t.
    CONDUIT_ELEMENT_I16 = 8,
    /// An int32_t.
    CONDUIT_ELEMENT_I32 = 9,
    /// An int64_t.
    CONDUIT_ELEMENT_I64 = 10,
    /// A float.
    CONDUIT_ELEMENT_F32 = 11,
    /// A double.
    CONDUIT_ELEMENT_F64 = 12,
}

/// What the bytes of a message mean: one value, or an array of them. Later versions may add members
/// at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct ShapeRecord {
    /// The type of the value, or of each element.
    pub element: ElementCode,
    /// Whether it is an array. An array of arrays is one array of all elements.
    pub is_array: bool,
    /// Number of elements; 1 if it is no array.
    pub count: u64,
    /// Size of one element in bytes.
    pub element_size: u64,
    /// Size of all elements in bytes.
    pub size: u64,
    /// The fields of a structure, ordered by offset: as many pointers as `field_count` says.
    pub fields: *const *const FieldRecord,
    /// Number of fields; 0 if it is no structure.
    pub field_count: usize,
    /// The shape as text, such as `f64[3]` or `{x f32, y f32}[16]`.
    pub text: *const c_char,
}

/// A field of a structure. Later versions may add members at the end: use it by pointer.
#[derive(Debug)]
#[repr(C)]
pub struct FieldRecord {
    /// Its name.
    pub name: *const c_char,
    /// Its offset in the structure in bytes.
    pub offset: u64,
    /// Its shape.
    pub shape: *const ShapeRecord,
}

/// A shape with everything that its record points to. In boxes, so that nothing moves.
#[derive(Debug)]
pub(crate) struct ShapeTree {
    record: Box<ShapeRecord>,
    _fields: Vec<FieldTree>,
    _pointers: Vec<*const FieldRecord>,
    _texts: CTexts,
}

#[derive(Debug)]
struct FieldTree {
    record: Box<FieldRecord>,
    _shape: ShapeTree,
    _texts: CTexts,
}

impl ShapeTree {
    /// Shapes nest at most 16 deep.
    pub(crate) fn new(shape: &Shape) -> Self {
        let fields: Vec<FieldTree> = match &shape.element {
            Element::Struct { fields, .. } => {
                fields.iter().map(|field| FieldTree::new(&field.name, field.offset, &field.shape)).collect()
            }
            _ => Vec::new(),
        };
        let pointers: Vec<_> = fields.iter().map(|field| from_ref(&*field.record)).collect();
        let mut texts = CTexts::default();
        let record = Box::new(ShapeRecord {
            element: code(&shape.element),
            is_array: shape.count.is_some(),
            count: shape.count.unwrap_or(1),
            element_size: shape.element.size(),
            size: shape.size(),
            fields: if pointers.is_empty() { null() } else { pointers.as_ptr() },
            field_count: pointers.len(),
            text: texts.add(&shape.to_string()),
        });
        Self { record, _fields: fields, _pointers: pointers, _texts: texts }
    }

    /// The address of the record, for as long as `self` lives.
    pub(crate) fn as_ptr(&self) -> *const ShapeRecord {
        from_ref(&*self.record)
    }
}

impl FieldTree {
    fn new(name: &str, offset: u64, shape: &Shape) -> Self {
        let (shape, mut texts) = (ShapeTree::new(shape), CTexts::default());
        let record = Box::new(FieldRecord { name: texts.add(name), offset, shape: shape.as_ptr() });
        Self { record, _shape: shape, _texts: texts }
    }
}

fn code(element: &Element) -> ElementCode {
    match element {
        Element::Struct { .. } => ElementCode::CONDUIT_ELEMENT_STRUCT,
        Element::Bool => ElementCode::CONDUIT_ELEMENT_BOOL,
        Element::U8 => ElementCode::CONDUIT_ELEMENT_U8,
        Element::U16 => ElementCode::CONDUIT_ELEMENT_U16,
        Element::U32 => ElementCode::CONDUIT_ELEMENT_U32,
        Element::U64 => ElementCode::CONDUIT_ELEMENT_U64,
        Element::I8 => ElementCode::CONDUIT_ELEMENT_I8,
        Element::I16 => ElementCode::CONDUIT_ELEMENT_I16,
        Element::I32 => ElementCode::CONDUIT_ELEMENT_I32,
        Element::I64 => ElementCode::CONDUIT_ELEMENT_I64,
        Element::F32 => ElementCode::CONDUIT_ELEMENT_F32,
        Element::F64 => ElementCode::CONDUIT_ELEMENT_F64,
        _ => ElementCode::CONDUIT_ELEMENT_BYTES,
    }
}
