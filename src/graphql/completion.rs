//! What the library leaves undone of an answer: fields in the order in which they were asked for, and a null that goes up to the
//! nearest field that may be null when one that may not has failed.
//!
//! async-graphql puts fields in the order in which they were ready, and leaves one that failed out, so that a client that
//! trusts the schema's `!` would find nothing there.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet, Type, TypeKind,
    TypeSystemDefinition,
};
use async_graphql::{Name, PathSegment, ServerError, Value};

/// The types of all fields.
pub(super) struct Shapes(HashMap<String, HashMap<String, Type>>);

impl Shapes {
    /// The shapes of a schema in GraphQL's own language.
    pub(super) fn of(sdl: &str) -> Self {
        let definitions = parse_schema(sdl).map(|schema| schema.definitions).unwrap_or_default();
        let types = definitions.into_iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(definition) => Some(definition.node),
            _ => None,
        });
        let shapes = types.filter_map(|definition| {
            let fields = match definition.kind {
                TypeKind::Object(object) => object.fields,
                TypeKind::Interface(interface) => interface.fields,
                _ => return None,
            };
            let fields = fields.into_iter().map(|field| (field.node.name.node.to_string(), field.node.ty.node));
            Some((definition.name.node.to_string(), fields.collect()))
        });
        Self(shapes.collect())
    }

    fn field(&self, parent: Option<&str>, name: &str) -> Option<&Type> {
        self.0.get(parent?)?.get(name)
    }
}

/// Where fields failed.
#[derive(Default)]
struct Failures<'a> {
    is_failed: bool,
    below: HashMap<Step<'a>, Self>,
}

#[derive(PartialEq, Eq, Hash)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> Failures<'a> {
    fn of(errors: &'a [ServerError]) -> Self {
        let mut root = Self::default();
        for error in errors.iter().filter(|error| !error.path.is_empty()) {
            let end = error.path.iter().fold(&mut root, |at, segment| {
                let step = match segment {
                    PathSegment::Field(name) => Step::Field(name),
                    PathSegment::Index(index) => Step::Index(*index),
                };
                at.below.entry(step).or_default()
            });
            end.is_failed = true;
        }
        root
    }
}

/// A field as it stands in the answer: its type, and all that was selected of it.
struct Asked<'a> {
    key: &'a Name,
    ty: Option<&'a Type>,
    sets: Vec<&'a SelectionSet>,
}

/// Completes the data of an answer; nothing when a null went all the way up.
pub(super) fn complete(
    shapes: &Shapes,
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    data: Value,
    errors: &[ServerError],
) -> Option<Value> {
    let root = match operation.ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => "Subscription",
    };
    let failures = Failures::of(errors);
    let failures = Some(&failures).filter(|failures| !failures.below.is_empty());
    // Without a failure only the order is to be mended, which needs no types.
    let root = failures.map(|_| root);
    Completion { shapes, document }.object(data, root, &[&operation.selection_set.node], failures)
}

struct Completion<'a> {
    shapes: &'a Shapes,
    document: &'a ExecutableDocument,
}

impl<'a> Completion<'a> {
    fn object(
        &self,
        value: Value,
        parent: Option<&'a str>,
        sets: &[&'a SelectionSet],
        failures: Option<&Failures<'_>>,
    ) -> Option<Value> {
        let Value::Object(mut found) = value else { return Some(value).filter(|value| *value != Value::Null) };
        let mut asked = Vec::with_capacity(found.len());
        for set in sets {
            self.collect(set, parent, &mut asked);
        }
        let mut completed = async_graphql::indexmap::IndexMap::with_capacity(found.len());
        for field in asked {
            let failure = failures.and_then(|failures| failures.below.get(&Step::Field(field.key)));
            let value = match (found.swap_remove(field.key), failure) {
                (Some(value), _) => self.value(value, field.ty, &field.sets, failure),
                (None, Some(_)) => None,
                // A field of another type than the one that was found, or one that was skipped.
                (None, None) => continue,
            };
            match value {
                Some(value) => completed.insert(field.key.clone(), value),
                None if field.ty.is_none_or(|ty| ty.nullable) => completed.insert(field.key.clone(), Value::Null),
                None => return None,
            };
        }
        Some(Value::Object(completed))
    }

    /// Completes a value; nothing when it is null and may not be.
    fn value(
        &self,
        value: Value,
        ty: Option<&'a Type>,
        sets: &[&'a SelectionSet],
        failure: Option<&Failures<'_>>,
    ) -> Option<Value> {
        let completed = match (value, ty.map(|ty| &ty.base)) {
            (Value::List(items), Some(BaseType::List(inner))) => {
                let items = items.into_iter().enumerate().map(|(index, item)| {
                    let failure = failure.and_then(|failure| failure.below.get(&Step::Index(index)));
                    self.value(item, Some(inner), sets, failure)
                });
                items.collect::<Option<Vec<Value>>>().map(Value::List)
            }
            (Value::List(items), None) => {
                let items = items.into_iter().map(|item| self.value(item, None, sets, None));
                items.collect::<Option<Vec<Value>>>().map(Value::List)
            }
            (value @ Value::Object(_), base) if !sets.is_empty() => {
                let parent = match base {
                    Some(BaseType::Named(name)) => Some(name.as_str()),
                    _ => None,
                };
                self.object(value, parent, sets, failure)
            }
            (Value::Null, _) => None,
            (value, _) => Some(value),
        };
        match completed {
            None if ty.is_none_or(|ty| ty.nullable) => Some(Value::Null),
            completed => completed,
        }
    }

    /// Gathers the fields of a selection in their order, those of fragments where they are spread.
    fn collect(&self, set: &'a SelectionSet, parent: Option<&'a str>, asked: &mut Vec<Asked<'a>>) {
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let key = &field.response_key().node;
                    let below = Some(&field.selection_set.node).filter(|set| !set.items.is_empty());
                    let ty = self.shapes.field(parent, &field.name.node);
                    match asked.iter_mut().find(|known| known.key == key) {
                        Some(known) => {
                            known.sets.extend(below);
                            known.ty = known.ty.or(ty);
                        }
                        None => asked.push(Asked { key, ty, sets: below.into_iter().collect() }),
                    }
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref().map(|on| on.node.on.node.as_str());
                    self.collect(&fragment.node.selection_set.node, parent.and(on).or(parent), asked);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.document.fragments.get(&spread.node.fragment_name.node) {
                        let on = fragment.node.type_condition.node.on.node.as_str();
                        self.collect(&fragment.node.selection_set.node, parent.map(|_| on), asked);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use async_graphql::value;

    use super::*;

    const SCHEMA: &str = "type Query { a: A, must: A!, list: [A!]!, loose: [A], named: Named } interface Named { name: String! } \
                          type A implements Named { name: String!, note: String, b: A!, c: A }";

    fn completed(query: &str, data: Value, failed: &[&[PathSegment]]) -> Option<serde_json::Value> {
        let document = parse_query(query).unwrap();
        let errors: Vec<ServerError> =
            failed.iter().map(|path| ServerError::new("failed", None).with_path(path.to_vec())).collect();
        let (_, operation) = document.operations.iter().next().unwrap();
        let data = complete(&Shapes::of(SCHEMA), &document, &operation.node, data, &errors);
        data.map(|data| data.into_json().unwrap())
    }

    fn field(name: &str) -> PathSegment {
        PathSegment::Field(name.to_owned())
    }

    #[test]
    fn fields_come_in_the_order_in_which_they_were_asked_for() {
        let query = "{ a { ...F note } must { name } } fragment F on A { c { note name } name }";
        let document = parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let data = value!({"must": {"name": "m"}, "a": {"name": "n", "note": "o", "c": {"name": "x", "note": "y"}}});
        let data = complete(&Shapes::of(SCHEMA), &document, &operation.node, data, &[]).unwrap();
        assert_eq!(data.to_string(), r#"{a: {c: {note: "y", name: "x"}, name: "n", note: "o"}, must: {name: "m"}}"#);
    }

    #[test]
    fn a_null_goes_up_to_what_may_be_null() {
        // The library leaves `name` out of what it has of `b`.
        let data = value!({"a": {"note": "o", "b": {"note": "p"}}});
        let failed = [field("a"), field("b"), field("name")];
        assert_eq!(completed("{ a { note b { note name } } }", data, &[&failed]), Some(serde_json::json!({"a": null})));

        let data = value!({"must": {"note": "o"}});
        let failed = [field("must"), field("name")];
        assert_eq!(completed("{ must { note name } }", data, &[&failed]), None);

        let data = value!({"loose": [{"name": "1"}, {"note": "2"}], "a": null});
        let failed = [field("loose"), PathSegment::Index(1), field("name")];
        let expected = serde_json::json!({"loose": [{"name": "1"}, null], "a": null});
        assert_eq!(completed("{ loose { name } a { name } }", data, &[&failed]), Some(expected));

        let data = value!({"list": [{"name": "1"}, null]});
        let failed = [field("list"), PathSegment::Index(1), field("name")];
        assert_eq!(completed("{ list { name } }", data, &[&failed]), None);

        let data = value!({"named": {"note": "x"}});
        let failed = [field("named"), field("name")];
        assert_eq!(
            completed("{ named { ... on A { note } name } }", data, &[&failed]),
            Some(serde_json::json!({"named": null}))
        );
    }

    #[test]
    fn a_field_that_may_be_null_is_null_beside_its_siblings() {
        let data = value!({"a": {"name": "n", "c": null}});
        let failed = [field("a"), field("c")];
        let expected = serde_json::json!({"a": {"name": "n", "c": null}});
        assert_eq!(completed("{ a { c { name } name } }", data, &[&failed]), Some(expected));
    }
}
