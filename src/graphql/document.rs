//! Documents: scanned before they are parsed, parsed once, and measured before they are validated.
//!
//! The measures are taken in ways whose cost cannot explode: nesting is counted on the text, so that the parser cannot run out
//! of stack; selections and depth of each fragment are computed once and added up saturating, so that fragments that spread
//! each other twice, twenty deep, cost what twenty fragments cost.

mod cost;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, FragmentDefinition, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::parser::{self, Positioned};
use async_graphql::{Name, Pos, ServerError, Variables};
use moka::sync::Cache;

use crate::error::{AppError, ErrorCode, Result};

/// What a document may be.
#[derive(Clone, Copy, Debug)]
pub struct DocumentLimits {
    /// Deepest nesting, fragments included.
    pub depth: usize,
    /// Most selections, fragments spread out.
    pub selections: u64,
    /// Largest cost: fields, those of a list times its page size.
    pub cost: u64,
}

/// Deepest nesting of brackets in the text: values nest too.
const DEEPEST_BRACKETS: usize = 60;
/// Larger documents are parsed each time: they are not what comes a thousand times a second.
const LARGEST_REMEMBERED: usize = 8 * 1024;

/// Longest message that is not ours, in characters: the library's repeat what was sent.
const LONGEST_MESSAGE: usize = 256;

/// A document that has been parsed.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) parsed: ExecutableDocument,
}

/// Parses documents, and remembers them.
pub(super) struct Documents {
    limits: DocumentLimits,
    cache: Cache<String, Arc<Document>>,
}

impl Documents {
    pub(super) fn new(limits: DocumentLimits, remembered: u64) -> Self {
        Self { limits, cache: Cache::builder().max_capacity(remembered).build() }
    }

    /// The document of a text.
    pub(super) fn parse(&self, text: &str) -> Result<Arc<Document>> {
        if let Some(known) = self.cache.get(text) {
            return Ok(known);
        }
        if brackets(text) > DEEPEST_BRACKETS {
            return Err(too_deep(self.limits.depth));
        }
        let mut parsed = parser::parse_query(text).map_err(parse_error)?;
        let measures = Measures::of(&parsed).map_err(|Bottomless| too_deep(self.limits.depth))?;
        if measures.depth > self.limits.depth {
            return Err(too_deep(self.limits.depth));
        }
        if measures.selections > self.limits.selections {
            return Err(AppError::new(
                ErrorCode::QueryTooComplex,
                format!(
                    "The document selects {} fields with its fragments spread out; at most {} are allowed. Ask for less, or \
                     in several requests.",
                    shown(measures.selections),
                    self.limits.selections
                ),
            ));
        }
        roots_of_subscriptions(&mut parsed)?;
        let document = Arc::new(Document { parsed });
        if text.len() <= LARGEST_REMEMBERED {
            self.cache.insert(text.to_owned(), document.clone());
        }
        Ok(document)
    }

    /// Checks what an operation would cost with these variables.
    pub(super) fn check_cost(
        &self,
        document: &Document,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> Result<()> {
        let cost = cost::of(&document.parsed, operation, variables);
        if cost <= self.limits.cost {
            return Ok(());
        }
        Err(AppError::new(
            ErrorCode::QueryTooComplex,
            format!(
                "The document could return {} fields, counting those of a list once for each row of its page; at most {} are \
                 allowed. Ask for smaller pages (first, last) or fewer fields.",
                shown(cost),
                self.limits.cost
            ),
        ))
    }
}

impl Document {
    /// The argument whose value stands at a place, to say which one was wrong.
    pub(super) fn argument_at(&self, place: Pos) -> Option<String> {
        let sets = self.parsed.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
        let fragments = self.parsed.fragments.values().map(|fragment| &fragment.node.selection_set.node);
        sets.chain(fragments).find_map(|set| argument_in(set, place))
    }

    /// The operation that a request means.
    pub(super) fn operation(&self, name: Option<&str>) -> Result<&OperationDefinition> {
        let mut operations = self.parsed.operations.iter();
        let found = match name {
            Some(name) => operations.find(|(found, _)| found.is_some_and(|found| found == name)),
            None if operations.len() > 1 => None,
            None => operations.next(),
        };
        found.map(|(_, operation)| &operation.node).ok_or_else(|| {
            AppError::new(
                ErrorCode::GraphqlValidationFailed,
                "The document has several operations or none of this name; say which with operationName.",
            )
        })
    }
}

/// A subscription has one root field, and the library looks for it among the fields alone: what fragments stand at the root
/// is put in their place.
fn roots_of_subscriptions(document: &mut ExecutableDocument) -> Result<()> {
    let fragments = document.fragments.clone();
    let mut inlined = HashSet::new();
    let operations: Vec<&mut Positioned<OperationDefinition>> = match &mut document.operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(operations) => operations.values_mut().collect(),
    };
    for operation in operations.into_iter().filter(|it| it.node.ty == OperationType::Subscription) {
        let root = &mut operation.node.selection_set.node;
        let mut fields = Vec::new();
        flatten(std::mem::take(&mut root.items), &fragments, &mut fields, &mut inlined, 0);
        if fields.len() != 1 {
            return Err(AppError::new(
                ErrorCode::GraphqlValidationFailed,
                format!(
                    "A subscription has exactly one root field, and this has {}. Subscribe several times.",
                    fields.len()
                ),
            ));
        }
        root.items = fields;
    }
    // What was put in its place is used no more, and validation would complain of it.
    while let Some(unused) =
        inlined.iter().find(|name| document.fragments.contains_key(*name) && !is_spread(document, name))
    {
        let unused = unused.clone();
        document.fragments.remove(&unused);
    }
    Ok(())
}

fn is_spread(document: &ExecutableDocument, name: &Name) -> bool {
    let operations = document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
    let fragments = document.fragments.values().map(|fragment| &fragment.node.selection_set.node);
    operations.chain(fragments).any(|set| spreads(set, name))
}

fn spreads(set: &SelectionSet, name: &Name) -> bool {
    set.items.iter().any(|item| match &item.node {
        Selection::Field(field) => spreads(&field.node.selection_set.node, name),
        Selection::InlineFragment(fragment) => spreads(&fragment.node.selection_set.node, name),
        Selection::FragmentSpread(spread) => spread.node.fragment_name.node == *name,
    })
}

fn flatten(
    items: Vec<Positioned<Selection>>,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
    fields: &mut Vec<Positioned<Selection>>,
    inlined: &mut HashSet<Name>,
    level: usize,
) {
    for item in items {
        let inner = match &item.node {
            // With directives, and in fragments that spread themselves, it is left to validation.
            Selection::InlineFragment(fragment) if fragment.node.directives.is_empty() => {
                Some(&fragment.node.selection_set.node)
            }
            Selection::FragmentSpread(spread) if spread.node.directives.is_empty() && level <= DEEPEST_SELECTIONS => {
                let name = &spread.node.fragment_name.node;
                // Each fragment once: what it adds is there then, however often it is spread, by itself too.
                if inlined.contains(name) {
                    continue;
                }
                let found = fragments.get(name);
                inlined.extend(found.map(|_| name.clone()));
                found.map(|found| &found.node.selection_set.node)
            }
            _ => None,
        };
        match inner {
            Some(set) => flatten(set.items.clone(), fragments, fields, inlined, level + 1),
            None => fields.push(item),
        }
    }
}

fn shown(count: u64) -> String {
    // Saturated sums say only that they are too large.
    if count > 1_000_000_000 { "more than a billion".to_owned() } else { count.to_string() }
}

fn argument_in(set: &SelectionSet, place: Pos) -> Option<String> {
    set.items.iter().find_map(|item| match &item.node {
        Selection::Field(field) => {
            let argument = field.node.arguments.iter().find(|(_, value)| value.pos == place);
            argument
                .map(|(name, _)| name.node.to_string())
                .or_else(|| argument_in(&field.node.selection_set.node, place))
        }
        Selection::InlineFragment(fragment) => argument_in(&fragment.node.selection_set.node, place),
        Selection::FragmentSpread(_) => None,
    })
}

fn too_deep(limit: usize) -> AppError {
    AppError::new(
        ErrorCode::QueryTooDeep,
        format!("The document is nested more than {limit} deep. Ask in several requests."),
    )
}

fn parse_error(error: parser::Error) -> AppError {
    let error = ServerError::from(error);
    let place =
        error.locations.first().map(|at| format!(" (line {}, column {})", at.line, at.column)).unwrap_or_default();
    // The parser's message draws the text; its last line says what it expected.
    let reason = error.message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let message = format!("The document is not GraphQL{place}: {}.", reason.trim().trim_start_matches("= "));
    AppError::new(ErrorCode::GraphqlParseFailed, shortened(&message))
}

/// The deepest nesting of brackets in a text, outside of strings and comments.
fn brackets(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' | b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            b'#' => {
                while bytes.get(at).is_some_and(|byte| !matches!(byte, b'\n' | b'\r')) {
                    at += 1;
                }
            }
            b'"' => at = string_end(bytes, at),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// Where the string that begins at a place ends. A block string that is never closed is read as the parser does: as an empty
/// string and what follows.
fn string_end(bytes: &[u8], start: usize) -> usize {
    const QUOTES: &[u8] = b"\"\"\"";
    if bytes[start..].starts_with(QUOTES) {
        let mut at = start + QUOTES.len();
        while at < bytes.len() {
            if bytes[at..].starts_with(b"\\\"\"\"") {
                at += 4;
            } else if bytes[at..].starts_with(QUOTES) {
                return at + 2;
            } else {
                at += 1;
            }
        }
        return start + 1;
    }
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' | b'\n' => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Deepest nesting of selections of every kind, spreads included: validation walks it, and gives up at 32.
const DEEPEST_SELECTIONS: usize = 30;

/// How deep and how large a document is, whatever its variables.
#[derive(Clone, Copy, Debug, Default)]
struct Measures {
    /// Fields within fields.
    depth: usize,
    selections: u64,
}

/// The document is nested too deep to be measured to its end.
struct Bottomless;

/// Measures each fragment once.
struct Measuring<'a> {
    document: &'a ExecutableDocument,
    /// `None`: it is being measured, and so spreads itself, which validation refuses.
    known: HashMap<&'a str, Option<Measures>>,
}

impl Measures {
    fn of(document: &ExecutableDocument) -> Result<Self, Bottomless> {
        let mut measuring = Measuring { document, known: HashMap::new() };
        let mut total = Self::default();
        for (_, operation) in document.operations.iter() {
            total = total.max(measuring.set(&operation.node.selection_set.node, 0)?);
        }
        // Fragments that nothing spreads are validated all the same.
        for name in document.fragments.keys() {
            total = total.max(measuring.fragment(name, 0)?);
        }
        Ok(total)
    }

    fn max(self, other: Self) -> Self {
        Self { depth: self.depth.max(other.depth), selections: self.selections.max(other.selections) }
    }
}

impl<'a> Measuring<'a> {
    fn set(&mut self, set: &'a SelectionSet, level: usize) -> Result<Measures, Bottomless> {
        if level > DEEPEST_SELECTIONS {
            return Err(Bottomless);
        }
        let mut total = Measures::default();
        for item in &set.items {
            let (own, below) = match &item.node {
                Selection::Field(field) => (1, self.set(&field.node.selection_set.node, level + 1)?),
                Selection::InlineFragment(fragment) => (0, self.set(&fragment.node.selection_set.node, level + 1)?),
                Selection::FragmentSpread(spread) => (0, self.fragment(&spread.node.fragment_name.node, level + 1)?),
            };
            total.depth = total.depth.max(below.depth.saturating_add(own));
            total.selections = total.selections.saturating_add(below.selections).saturating_add(1);
        }
        Ok(total)
    }

    fn fragment(&mut self, name: &'a str, level: usize) -> Result<Measures, Bottomless> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.unwrap_or_default());
        }
        self.known.insert(name, None);
        let measures = match self.document.fragments.get(name) {
            Some(fragment) => self.set(&fragment.node.selection_set.node, level)?,
            None => Measures::default(),
        };
        self.known.insert(name, Some(measures));
        Ok(measures)
    }
}

/// The beginning of a message, so that an answer is not larger than what it answers.
pub(super) fn shortened(message: &str) -> String {
    if message.chars().count() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    message.chars().take(LONGEST_MESSAGE - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DocumentLimits = DocumentLimits { depth: 20, selections: 1_000, cost: 20_000 };

    fn check(text: &str, variables: serde_json::Value) -> Result<()> {
        let documents = Documents::new(LIMITS, 10);
        let document = documents.parse(text)?;
        documents.check_cost(&document, document.operation(None)?, &Variables::from_json(variables))
    }

    fn code(text: &str) -> Option<ErrorCode> {
        check(text, serde_json::json!({})).err().map(|error| error.code)
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_nest() {
        assert_eq!(brackets(r#"{ a(b: "{{{{" c: """ [[[ " [[[ """) # ((((("#), 2);
        assert_eq!(brackets(r#"{ a(b: "\"{{" ) }"#), 2);
        assert_eq!(brackets("\"unclosed {\n{[("), 3);
        assert_eq!(brackets("{a(b:[\"\"\"x\" [[[[]]]]])}"), 7, "a block string that is never closed hides nothing");
        assert_eq!(brackets(r#"{a(b: """ \""" [[[ """)}"#), 2);
    }

    #[test]
    fn deep_documents_are_refused_whatever_they_nest() {
        assert_eq!(code(&format!("{}a{}", "{a".repeat(19), "}".repeat(19))), None);
        assert_eq!(code(&format!("{}{}", "{a".repeat(21), "}".repeat(21))), Some(ErrorCode::QueryTooDeep));
        let chain: Vec<String> = (0..9_000).map(|n| format!("fragment F{n} on Query {{...F{}}}", n + 1)).collect();
        assert_eq!(code(&format!("{{...F0}} {}", chain.join(" "))), Some(ErrorCode::QueryTooDeep));
        for open in ["{a", "{a(b:[", "{a(b:{c:"] {
            assert_eq!(code(&open.repeat(50_000)), Some(ErrorCode::QueryTooDeep));
        }
    }

    #[test]
    fn a_fragment_bomb_costs_no_more_than_its_fragments() {
        let fragments = (0..25).map(|number| {
            let next = number + 1;
            format!("fragment F{number} on Query {{...F{next} ...F{next}}}")
        });
        let bomb = format!("{{...F0}} {} fragment F25 on Query {{a}}", fragments.collect::<Vec<_>>().join(" "));
        assert_eq!(code(&bomb), Some(ErrorCode::QueryTooComplex));
        assert_eq!(
            code("{...F} fragment F on Query {...F a}"),
            None,
            "validation refuses a fragment that spreads itself"
        );
        let itself = "subscription {...F} fragment F on Subscription {...F ...F}";
        assert_eq!(code(itself), Some(ErrorCode::GraphqlValidationFailed));
        assert_eq!(code("subscription {...F ...F} fragment F on Subscription {heartbeats {at} ...F ...F}"), None);
    }

    #[test]
    fn what_returns_too_much_is_refused() {
        let query =
            "query($n: Int = 100) { runners(first: $n) { nodes { scope { runners(first: $n) { nodes { id } } } } } }";
        assert!(check(query, serde_json::json!({"n": 10})).is_ok());
        for variables in [serde_json::json!({"n": 100}), serde_json::json!({})] {
            assert!(check(query, variables).is_err());
        }
        assert_eq!(
            code("{ runners { nodes { scope { runners { nodes { scope { runners { nodes { id } } } } } } } } }"),
            Some(ErrorCode::QueryTooComplex)
        );
    }

    #[test]
    fn what_is_no_graphql_is_told_where() {
        let error = check("{ a ", serde_json::json!({})).unwrap_err();
        assert_eq!(error.code, ErrorCode::GraphqlParseFailed);
        assert!(error.message.contains("line 1"), "{error}");
    }
}
