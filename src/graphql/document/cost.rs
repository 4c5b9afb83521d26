//! What an operation could return, before anything is looked up.

use std::collections::HashMap;

use async_graphql::parser::Positioned;
use async_graphql::parser::types::{ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet};
use async_graphql::{Name, Value, Variables};

use crate::graphql::pagination::{DEFAULT_PAGE, LARGEST_PAGE};

/// Fields that are lists without pages, and have fields below. They count as pages of the usual size do.
const LISTS: [&str; 3] = ["currentTasks", "lines", "outputs"];

/// What an operation could return: each field counts one, those below a list once for each row of its page.
pub(super) fn of(document: &ExecutableDocument, operation: &OperationDefinition, variables: &Variables) -> u64 {
    let cost = Cost { document, operation, variables, fragments: HashMap::new(), lists: HashMap::new() };
    cost.total()
}

struct Cost<'a> {
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    variables: &'a Variables,
    /// What fragments cost. `None`: it is being looked at, and so spreads itself, which validation refuses.
    fragments: HashMap<&'a str, Option<u64>>,
    /// Whether fragments select the rows of a page.
    lists: HashMap<&'a str, bool>,
}

impl<'a> Cost<'a> {
    fn total(mut self) -> u64 {
        self.of_set(&self.operation.selection_set.node)
    }

    fn of_set(&mut self, set: &'a SelectionSet) -> u64 {
        set.items.iter().fold(0_u64, |sum, item| {
            let cost = match &item.node {
                Selection::Field(field) => self.of_field(field),
                Selection::InlineFragment(fragment) => self.of_set(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => self.of_fragment(&spread.node.fragment_name.node),
            };
            sum.saturating_add(cost)
        })
    }

    fn of_fragment(&mut self, name: &'a str) -> u64 {
        if let Some(known) = self.fragments.get(name) {
            return known.unwrap_or_default();
        }
        self.fragments.insert(name, None);
        let fragment = self.document.fragments.get(name);
        let cost = fragment.map_or(0, |fragment| self.of_set(&fragment.node.selection_set.node));
        self.fragments.insert(name, Some(cost));
        cost
    }

    fn of_field(&mut self, field: &'a Positioned<Field>) -> u64 {
        let below = self.of_set(&field.node.selection_set.node);
        below.saturating_mul(self.rows(&field.node)).saturating_add(1)
    }

    /// How many rows a field may return. Lists are known by what is selected of them, by their arguments, and by name.
    fn rows(&mut self, field: &'a Field) -> u64 {
        if let Some(Value::List(ids)) = self.argument(field, "ids") {
            return u64::try_from(ids.len()).unwrap_or(u64::MAX);
        }
        let is_list = LISTS.contains(&field.name.node.as_str());
        if !is_list && !self.selects_rows(&field.selection_set.node) {
            return 1;
        }
        let asked = ["first", "last"].iter().find_map(|name| match self.argument(field, name)? {
            Value::Number(number) => number.as_u64(),
            _ => None,
        });
        let largest = u64::try_from(LARGEST_PAGE).unwrap_or(u64::MAX);
        asked.unwrap_or(u64::try_from(DEFAULT_PAGE).unwrap_or(1)).min(largest)
    }

    /// Whether the rows of a page are among what is selected of it.
    fn selects_rows(&mut self, set: &'a SelectionSet) -> bool {
        set.items.iter().any(|item| match &item.node {
            Selection::Field(field) => matches!(field.node.name.node.as_str(), "nodes" | "edges"),
            Selection::InlineFragment(fragment) => self.selects_rows(&fragment.node.selection_set.node),
            Selection::FragmentSpread(spread) => self.is_of_rows(&spread.node.fragment_name.node),
        })
    }

    fn is_of_rows(&mut self, name: &'a str) -> bool {
        if let Some(known) = self.lists.get(name) {
            return *known;
        }
        self.lists.insert(name, false);
        let fragment = self.document.fragments.get(name);
        let is_of_rows = fragment.is_some_and(|fragment| self.selects_rows(&fragment.node.selection_set.node));
        self.lists.insert(name, is_of_rows);
        is_of_rows
    }

    /// An argument's value, with variables and their defaults filled in.
    fn argument(&self, field: &Field, name: &str) -> Option<Value> {
        let value = &field.get_argument(name)?.node;
        value.clone().into_const_with(|name| self.variable(&name).ok_or(())).ok()
    }

    fn variable(&self, name: &Name) -> Option<Value> {
        if let Some(given) = self.variables.get(name) {
            return Some(given.clone());
        }
        let definition = self.operation.variable_definitions.iter().find(|it| it.node.name.node == *name)?;
        definition.node.default_value().cloned()
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    fn cost(text: &str, variables: serde_json::Value) -> u64 {
        let document = parse_query(text).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        of(&document, &operation.node, &Variables::from_json(variables))
    }

    #[test]
    fn page_sizes_multiply() {
        assert_eq!(cost("{ runners(first: 10) { totalCount nodes { id name } } }", json!({})), 1 + 10 * (1 + 1 + 2));
        let query =
            "query($n: Int = 100) { runners(first: $n) { nodes { log(first: $n) { edges { node { at } } } } } }";
        assert_eq!(cost(query, json!({"n": 10})), 1 + 10 * (1 + 1 + 10 * (1 + 1 + 1)));
        for variables in [json!({"n": 100}), json!({"n": 1_000}), json!({})] {
            assert_eq!(cost(query, variables), 1 + 100 * (1 + 1 + 100 * (1 + 1 + 1)));
        }
        assert_eq!(cost("{ tasks { totalCount } }", json!({})), 2, "nothing is shown of the page");
        assert_eq!(cost("{ nodes(ids: [1, 2, 3]) { id } }", json!({})), 1 + 3);
        assert_eq!(cost("{ viewer { currentTasks { id runner { currentTasks { id } } } } }", json!({})), 992);
        assert_eq!(cost("{ task { outputs { name value } } }", json!({})), 1 + 1 + 30 * 2);
    }

    #[test]
    fn page_sizes_multiply_in_fragments_too() {
        let query = "{ tasks { ...A } } fragment A on TaskConnection { ... { ...B } } \
                     fragment B on TaskConnection { totalCount edges { node { log { ...C } } } } \
                     fragment C on TaskLogConnection { nodes { at } }";
        assert_eq!(cost(query, json!({})), 1 + 30 * (1 + 1 + 1 + (1 + 30 * (1 + 1))));
        assert_eq!(
            cost("{ tasks { ...F } } fragment F on TaskConnection { ...F }", json!({})),
            1,
            "validation refuses it"
        );
    }
}
