//! GraphiQL, from files in the binary: it works without a network and under a strict content security policy.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::{Html, IntoResponse as _, Response};

macro_rules! files {
    ($($name:literal, $content_type:literal, $packed:literal;)*) => {
        &[$(($name, $content_type, $packed, include_bytes!(concat!("../dashboard/graphiql/", $name, $packed)))),*]
    };
}

/// Name, content type, what is appended to the name of the file that holds it, content.
type File = (&'static str, &'static str, &'static str, &'static [u8]);

const FILES: &[File] = files! {
    "graphiql.min.js", "text/javascript; charset=utf-8", ".gz";
    "graphiql.min.css", "text/css; charset=utf-8", ".gz";
    "react.production.min.js", "text/javascript; charset=utf-8", ".gz";
    "react-dom.production.min.js", "text/javascript; charset=utf-8", ".gz";
    "graphql-ws.min.js", "text/javascript; charset=utf-8", ".gz";
    "page.js", "text/javascript; charset=utf-8", "";
    "page.css", "text/css; charset=utf-8", "";
};

/// The page.
pub(super) async fn page() -> Html<&'static str> {
    Html(include_str!("../dashboard/graphiql/index.html"))
}

/// What the page needs.
pub(super) async fn file(Path(name): Path<String>) -> Response {
    let Some((_, content_type, packed, content)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [(CONTENT_TYPE, *content_type), (CACHE_CONTROL, "no-cache")];
    if packed.is_empty() {
        return (headers, *content).into_response();
    }
    // Every browser takes gzip; keeping a second copy for none would double the binary.
    (headers, [(CONTENT_ENCODING, "gzip")], *content).into_response()
}
