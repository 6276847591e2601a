//! `#[derive(Message)]` for libconduit: gives a `#[repr(C)]` struct the type name that its topics carry.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, LitStr, parse_macro_input};

/// Longest type name a region can hold, in bytes.
const MAX_NAME: usize = 64;

/// Implements `conduit::Message` for a type of fixed size.
///
/// The type name is the struct's identifier unless `#[message(name = "robot/Imu")]` gives another; it has
/// at most 64 bytes. The zerocopy traits are derived beside it, they prove that the bytes may be shared.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput)).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(syn::Error::new_spanned(parameter, "a Message has one name, so its type can not be generic"));
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
    Ok(quote! {
        impl ::conduit::Message for #ident {
            const TYPE: ::conduit::TypeInfo = ::conduit::TypeInfo::value::<Self>(#name);
        }
    })
}
