//! The list of all settings that hold.
