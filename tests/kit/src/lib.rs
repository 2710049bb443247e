//! What the tests of Cofferdam stand on. Knows nothing of the host: it speaks to it over the wire, as strangers do.

pub mod bookings;
pub mod dns;
pub mod fake_llm;
pub mod web;

pub use bookings::Bookings;
pub use dns::DnsServer;
pub use fake_llm::FakeLlm;
pub use web::WebServer;
