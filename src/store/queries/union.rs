//! Many pages in one statement.

use diesel::QueryResult;
use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};

/// `SELECT * FROM (…) UNION ALL SELECT * FROM (…)`: one statement for the pages of many lists, each read through its
/// index and cut at its own limit. The rows carry the number of their list; their order between lists is not defined.
pub(super) struct UnionAll<Q>(pub(super) Vec<Q>);

/// How many selects SQLite allows in one statement, less some room.
pub(super) const MOST_SELECTS: usize = 400;

impl<Q, DB> QueryFragment<DB> for UnionAll<Q>
where
    DB: Backend,
    Q: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if self.0.len() > 1 {
            // Each number of lists is another statement: they would fill the cache.
            out.unsafe_to_cache_prepared();
        }
        for (number, query) in self.0.iter().enumerate() {
            if number > 0 {
                out.push_sql(" UNION ALL ");
            }
            out.push_sql("SELECT * FROM (");
            query.walk_ast(out.reborrow())?;
            out.push_sql(&format!(") AS list_{number}"));
        }
        Ok(())
    }
}

impl<Q> QueryId for UnionAll<Q> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for UnionAll<Q> {
    type SqlType = Q::SqlType;
}
