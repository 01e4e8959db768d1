//! Selectors of objects, by labels and by fields. It must not know which fields a kind can be selected by.
mod field_selector;
mod label_lexer;
mod label_selector;

pub use field_selector::{FieldRequirement, FieldSelector, ParseFieldSelectorError};
pub use label_selector::{LabelSelector, Operator, ParseLabelSelectorError, Requirement};
