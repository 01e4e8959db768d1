//! Fields that an apply would take from others, and the words of the refusal. It must not know how they were found.
use super::element::{PathElement, display_path};
use super::managed::ManagerId;
use super::set::Set;
use crate::error::{ApiError, StatusCause};

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: ManagerId,
    /// Which.
    pub path: Vec<PathElement>,
}

/// All of them, by manager and field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    pub(super) fn add(&mut self, manager: &ManagerId, set: &Set) {
        set.for_each(&mut |path| self.0.push(Conflict { manager: manager.clone(), path: path.to_vec() }));
    }

    /// Those that are not in the set.
    pub(super) fn outside(self, set: &Set) -> Self {
        Self(self.0.into_iter().filter(|conflict| !set.has(&conflict.path)).collect())
    }

    /// The refusal, with a cause for each field.
    pub fn to_error(&self) -> ApiError {
        let cause = |conflict: &Conflict| {
            let message = format!("conflict with {}", conflict.manager.shown());
            StatusCause::new("FieldManagerConflict", message, display_path(&conflict.path))
        };
        ApiError::ApplyConflict { causes: self.0.iter().map(cause).collect(), message: self.message() }
    }

    fn message(&self) -> String {
        if let [only] = &self.0[..] {
            let (manager, path) = (only.manager.shown(), display_path(&only.path));
            return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let mut lines = Vec::new();
        let mut last: Option<&ManagerId> = None;
        for conflict in &self.0 {
            if last != Some(&conflict.manager) {
                lines.push(format!("conflicts with {}:", conflict.manager.shown()));
                last = Some(&conflict.manager);
            }
            lines.push(format!("- {}", display_path(&conflict.path)));
        }
        format!("Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}
