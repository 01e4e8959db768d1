//! A failure that comes again and again is told once, until it is another one or something went well between. It knows no log.

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Told(Option<String>);

impl Told {
    /// Whether this failure is news.
    pub(super) fn is_news(&mut self, failure: &impl ToString) -> bool {
        let failure = Some(failure.to_string());
        let is_news = self.0 != failure;
        self.0 = failure;
        is_news
    }

    /// It went well: whatever comes next is news.
    pub(super) fn went_well(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_once() {
        let mut told = Told::default();
        let news = ["a", "a", "b", "b", "a"].map(|failure| told.is_news(&failure));
        assert_eq!(news, [true, false, true, false, true]);
        told.went_well();
        assert!(told.is_news(&"a"));
    }
}
