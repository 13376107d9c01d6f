//! Who may relay, without a database.
