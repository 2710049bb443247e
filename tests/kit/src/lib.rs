//! What the tests of Cofferdam stand on. Knows nothing of the host: it speaks to it over the wire, as strangers do.

pub mod fake_llm;

pub use fake_llm::FakeLlm;
