//! `#[derive(Message)]` for libconduit: gives a `#[repr(C)]` struct a type name and a shape.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{Data, DataStruct, DeriveInput, Ident, LitStr, Member, parse_macro_input};

/// Longest type name a region can hold, in bytes.
const MAX_NAME: usize = 64;

/// Implements `conduit::Message` for a type of fixed size.
///
/// The type name is the struct's identifier unless `#[message(name = "robot/Imu")]` gives another;
/// it has at most 64 bytes. The names, types and offsets of the fields are stored beside the
/// region, so that `conduit echo` can display them. Derive the zerocopy traits too: they prove that
/// the bytes may be shared.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput)).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(syn::Error::new_spanned(parameter, "a message type has one name, so it cannot be generic"));
    }
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
    let ident = &input.ident;
    let shape = shape(input);
    Ok(quote! {
        impl ::conduit::Message for #ident {
            const TYPE: ::conduit::TypeInfo = ::conduit::TypeInfo::value::<Self>(#name);

            #shape
        }
    })
}

/// `Message::shape`, for types that have one. An enum without a primitive representation is
/// described as bytes.
fn shape(input: &DeriveInput) -> Option<proc_macro2::TokenStream> {
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
            let primitive =
                input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")).find_map(|attribute| {
                    let representation = attribute.parse_args::<Ident>().ok()?.to_string();
                    ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"]
                        .contains(&&*representation)
                        .then_some(representation)
                })?;
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
