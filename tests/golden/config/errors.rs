//! What is wrong with documents, and how it is said.
