//! The embedded index: a server on Tantivy that speaks the part of Elasticsearch's HTTP API that Lockstep uses.
