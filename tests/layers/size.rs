//! Lengths of files, functions and lines of comments, and the places of `unsafe`.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Signature};

use crate::rules::Rules;
use crate::sources::Sources;

pub fn long_files(sources: &Sources, rules: &Rules) -> Vec<String> {
    let lengths = sources.products().map(|(path, source)| (path, source.text.lines().count()));
    let most = rules.file_lines;
    lengths
        .filter(|(_, lines)| *lines > most)
        .map(|(path, lines)| format!("{path}:1: file: {lines} lines, {most} at most"))
        .collect()
}

pub fn long_functions(sources: &Sources, rules: &Rules) -> Vec<String> {
    let most = rules.function_lines;
    let mut violations = Vec::new();
    for (path, source) in sources.products() {
        let mut measure = Measure::default();
        measure.visit_file(&source.syntax);
        for (name, line, lines) in measure.functions.into_iter().filter(|(_, _, lines)| *lines > most) {
            violations.push(format!("{path}:{line}: function: {name} has {lines} lines, {most} at most"));
        }
    }
    violations
}

/// Lines of comments, also of tests. What cannot be wrapped may be longer: addresses, and rows of
/// tables.
pub fn long_comments(sources: &Sources, rules: &Rules) -> Vec<String> {
    let most = rules.comment_columns;
    let is_long = |line: &str| {
        let text = line.trim_start();
        let is_row = text.trim_start_matches(['/', '!', ' ']).starts_with('|');
        text.starts_with("//") && !is_row && !text.contains("://") && line.chars().count() > most
    };
    let mut violations = Vec::new();
    for (path, source) in sources.all() {
        for (number, line) in (1..).zip(source.text.lines()).filter(|(_, line)| is_long(line)) {
            let columns = line.chars().count();
            violations.push(format!("{path}:{number}: comment: {columns} columns, {most} at most"));
        }
    }
    violations
}

pub fn misplaced_unsafe(sources: &Sources, rules: &Rules) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, source) in sources.products() {
        if rules.unsafe_files.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        let mut measure = Measure::default();
        measure.visit_file(&source.syntax);
        violations
            .extend(measure.unsafe_lines.iter().map(|line| format!("{path}:{line}: unsafe code does not belong here")));
    }
    violations
}

#[derive(Default)]
struct Measure {
    /// Name, first line and number of lines.
    functions: Vec<(String, usize, usize)>,
    unsafe_lines: Vec<usize>,
}

impl Measure {
    fn function(&mut self, signature: &Signature, block: &Block) {
        let (first, last) = (signature.span().start().line, block.brace_token.span.close().end().line);
        self.functions.push((signature.ident.to_string(), first, last + 1 - first));
    }

    fn unsafe_at(&mut self, span: Span) {
        self.unsafe_lines.push(span.start().line);
    }

    fn unsafe_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if ident == "unsafe" => self.unsafe_at(ident.span()),
                TokenTree::Group(group) => self.unsafe_tokens(group.stream()),
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Measure {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_at(block.unsafe_token.span);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        signature.unsafety.iter().for_each(|token| self.unsafe_at(token.span));
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        item.unsafety.iter().for_each(|token| self.unsafe_at(token.span));
        visit::visit_item_impl(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        item.unsafety.iter().for_each(|token| self.unsafe_at(token.span));
        visit::visit_item_foreign_mod(self, item);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // Code that our macros generate belongs to the crate that calls them.
        if !call.path.is_ident("quote") {
            self.unsafe_tokens(call.tokens.clone());
        }
    }
}
