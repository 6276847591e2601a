//! `#[derive(Message)]` for libconduit: gives a `#[repr(C)]` struct a type name and a shape.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Data, DataEnum, DataStruct, DataUnion, DeriveInput, Field, LitInt, LitStr, Member, parenthesized,
    parse_macro_input, token,
};

/// Longest type name a region can hold, in bytes.
const MAX_NAME: usize = 64;
/// The types that can represent an enum.
const PRIMITIVES: [&str; 8] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];

/// Implements `conduit::Message` for a type of fixed size.
///
/// The type name is the struct's identifier unless `#[message(name = "robot/Imu")]` gives another;
/// it has at most 64 bytes. The names, types and offsets of the fields are stored beside the
/// region, so that `conduit echo` can display them. Derive the zerocopy traits too: they prove that
/// the bytes may be shared.
///
/// The type has a representation that all compilers agree on: a struct is `#[repr(C)]` (which may
/// be packed or aligned) or `#[repr(transparent)]`, an enum `#[repr(u8)]` or another integer. So
/// have its fields: they are messages, numbers, or arrays of either. A field of another type with
/// such a representation is marked with `#[message(fixed_layout)]`, by which the program vouches.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput)).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(syn::Error::new_spanned(parameter, "a message type has one name, so it cannot be generic"));
    }
    let name = name(input)?;
    let representations = representations(input)?;
    check_representation(input, &representations)?;
    let ident = &input.ident;
    let checks = field_checks(input)?;
    let shape = shape(input, &representations);
    Ok(quote! {
        impl ::conduit::Message for #ident {
            const TYPE: ::conduit::TypeInfo = ::conduit::TypeInfo::value::<Self>(#name);

            #shape

            #[inline(always)]
            fn view(bytes: &[u8]) -> ::core::option::Option<&Self> {
                #[allow(unused_imports)]
                use ::conduit::derive_support::{Checked as _, Of};
                Of::<Self>::view(bytes)
            }

            #[inline(always)]
            fn view_slice(bytes: &[u8]) -> ::core::option::Option<&[Self]> {
                #[allow(unused_imports)]
                use ::conduit::derive_support::{Checked as _, Of};
                Of::<Self>::view_slice(bytes)
            }
        }

        impl ::conduit::derive_support::FixedLayout for #ident {}

        const _: () = {
            #(#checks)*
        };
    })
}

/// The type's name.
fn name(input: &DeriveInput) -> syn::Result<LitStr> {
    let mut name = LitStr::new(&input.ident.to_string(), input.ident.span());
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("message")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("unknown key, expected `name = \"...\"`"));
            }
            name = meta.value()?.parse()?;
            Ok(())
        })?;
    }
    let text = name.value();
    if text.is_empty() || text.len() > MAX_NAME || text.contains('\0') {
        return Err(syn::Error::new_spanned(&name, "a type name has 1 to 64 bytes and no NUL"));
    }
    Ok(name)
}

/// Statements that compile if the layout of each field's type is fixed.
fn field_checks(input: &DeriveInput) -> syn::Result<Vec<proc_macro2::TokenStream>> {
    let fields: Vec<&Field> = match &input.data {
        Data::Struct(DataStruct { fields, .. }) => fields.iter().collect(),
        Data::Enum(DataEnum { variants, .. }) => variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(DataUnion { fields, .. }) => fields.named.iter().collect(),
    };
    let mut checks = Vec::new();
    for field in fields {
        let mut is_vouched_for = false;
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("message")) {
            attribute.parse_nested_meta(|meta| {
                is_vouched_for = meta.path.is_ident("fixed_layout");
                if is_vouched_for { Ok(()) } else { Err(meta.error("unknown key, expected `fixed_layout`")) }
            })?;
        }
        if !is_vouched_for {
            let field_type = &field.ty;
            // At the field, so that the error is reported there.
            checks.push(quote_spanned! { field_type.span() =>
                ::conduit::derive_support::has_fixed_layout::<#field_type>();
            });
        }
    }
    Ok(checks)
}

/// The words of the `#[repr(...)]` attributes.
fn representations(input: &DeriveInput) -> syn::Result<Vec<String>> {
    let mut words = Vec::new();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            words.extend(meta.path.get_ident().map(ToString::to_string));
            if meta.input.peek(token::Paren) {
                // The number of `packed` or `align`.
                let number;
                parenthesized!(number in meta.input);
                number.parse::<LitInt>()?;
            }
            Ok(())
        })?;
    }
    Ok(words)
}

/// Without a representation the compiler may put the fields in another order in every program.
fn check_representation(input: &DeriveInput, representations: &[String]) -> syn::Result<()> {
    let has = |words: &[&str]| representations.iter().any(|word| words.contains(&&**word));
    let (is_fixed, expected) = match input.data {
        Data::Enum(_) => (has(&["C"]) || has(&PRIMITIVES), "#[repr(u8)] or another integer"),
        Data::Struct(_) | Data::Union(_) => (has(&["C", "transparent"]), "#[repr(C)]"),
    };
    if is_fixed {
        return Ok(());
    }
    let message = format!(
        "a message type needs {expected}: without it the layout is up to the compiler, and another program would read \
         the fields in the wrong places"
    );
    Err(syn::Error::new_spanned(&input.ident, message))
}

/// `Message::shape`, for types that have one. An enum without a primitive representation is
/// described as bytes.
fn shape(input: &DeriveInput, representations: &[String]) -> Option<proc_macro2::TokenStream> {
    let shape = match &input.data {
        Data::Struct(DataStruct { fields, .. }) => {
            let fields = fields.iter().zip(fields.members()).map(|(field, member)| {
                let name = match &member {
                    Member::Named(ident) => ident.unraw().to_string(),
                    Member::Unnamed(index) => index.index.to_string(),
                };
                let field_type = &field.ty;
                // A field that is not a message is described as bytes: the inherent function of
                // `Of`, where it exists, hides the trait's.
                quote! { (#name, ::core::mem::offset_of!(Self, #member), Of::<#field_type>::shape()) }
            });
            quote! {
                #[allow(unused_imports)]
                use ::conduit::derive_support::{Of, Unknown as _};
                let fields: ::std::vec::Vec<(&'static str, usize, ::conduit::Shape)> = ::std::vec![#(#fields),*];
                ::conduit::Shape::structure(::core::mem::size_of::<Self>(), fields)
            }
        }
        Data::Enum(_) => {
            let primitive = representations.iter().find(|word| PRIMITIVES.contains(&&***word))?;
            let primitive = format_ident!("{primitive}");
            quote! { <#primitive as ::conduit::Message>::shape() }
        }
        Data::Union(_) => return None,
    };
    Some(quote! {
        fn shape() -> ::conduit::Shape {
            #shape
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(item: &str) -> Option<String> {
        expand(&syn::parse_str(item).unwrap()).err().map(|error| error.to_string())
    }

    #[test]
    fn a_layout_that_is_up_to_the_compiler_is_refused() {
        for item in [
            "struct A { x: u8 }",
            "#[repr(packed)] struct A { x: u8 }",
            "#[repr(align(8))] struct A { x: u64 }",
            "union A { x: u8 }",
        ] {
            let refusal = refusal(item).unwrap();
            assert!(refusal.starts_with("a message type needs #[repr(C)]: "), "{item}: {refusal}");
        }
        assert!(refusal("enum A { X }").unwrap().starts_with("a message type needs #[repr(u8)] or another integer: "));
        for item in [
            "#[repr(C)] struct A { x: u8 }",
            "#[repr(C, packed(2))] struct A { x: u8 }",
            "#[repr(C)] #[repr(align(8))] struct A { x: u64 }",
            "#[repr(transparent)] struct A(u8);",
            "#[repr(u8)] enum A { X }",
            "#[repr(C, u8)] enum A { X }",
        ] {
            assert_eq!(refusal(item), None, "{item}");
        }
    }

    #[test]
    fn the_fields_of_all_kinds_of_types_are_checked_unless_they_are_vouched_for() {
        for (item, types) in [
            ("#[repr(C)] struct A { x: u8, y: [B; 2] }", &["u8", "[B;2]"][..]),
            ("#[repr(transparent)] struct A(B);", &["B"]),
            ("#[repr(C)] struct A { #[message(fixed_layout)] x: B, y: C }", &["C"]),
            ("#[repr(u8)] enum A { X, Y(B), Z { z: C } }", &["B", "C"]),
            ("#[repr(C)] union A { x: B, y: C }", &["B", "C"]),
        ] {
            let expanded = expand(&syn::parse_str(item).unwrap()).unwrap().to_string().replace(' ', "");
            let checked = expanded.split("has_fixed_layout::<").skip(1);
            let checked: Vec<_> = checked.map(|rest| rest.split_once(">()").unwrap().0).collect();
            assert_eq!(checked, types, "{item}");
        }
        let refusal = refusal("#[repr(C)] struct A { #[message(fixed)] x: B }").unwrap();
        assert_eq!(refusal, "unknown key, expected `fixed_layout`");
    }
}
