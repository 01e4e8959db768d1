//! Conversions of custom resources for work that cannot wait for them: what is not known yet is noted, and the work is done again once
//! it is. Who converts is not known here.

use nauplius_meta::error::ApiError;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// Most conversions that one piece of work asks for.
const MAX_KNOWN: usize = 256;

/// An object and the version that it is wanted in.
type Wanted = (Value, String);

#[derive(Default)]
struct Asked {
    known: Vec<(Wanted, Result<Value, String>)>,
    wanted: Option<Wanted>,
}

/// What one piece of work has asked for.
#[derive(Default)]
pub(super) struct Conversions(Mutex<Asked>);

impl Conversions {
    /// The object in another version. An error means nothing while [`Self::take_wanted`] has something.
    pub fn get(&self, object: &Value, to: &str) -> Result<Value, String> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = asked.known.iter().find(|((from, version), _)| version == to && from == object);
        if let Some((_, outcome)) = known {
            return outcome.clone();
        }
        if asked.known.len() == MAX_KNOWN {
            return Err("managed fields need too many conversions".to_owned());
        }
        asked.wanted.get_or_insert_with(|| (object.clone(), to.to_owned()));
        Err("not converted yet".to_owned())
    }

    /// What must be learned before the work is done again; nothing when it was done.
    pub fn take_wanted(&self) -> Option<Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wanted.take()
    }

    /// Remembers what became of a conversion.
    pub fn learn(&self, wanted: Wanted, outcome: Result<Value, ApiError>) {
        let outcome = outcome.map_err(|error| error.message());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.push((wanted, outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn work_is_done_once_everything_is_known() {
        let conversions = Conversions::default();
        let work = || Ok::<_, String>((conversions.get(&json!(1), "a")?, conversions.get(&json!(1), "b")));
        assert!(work().is_err());
        let wanted = conversions.take_wanted().unwrap();
        assert_eq!(wanted, (json!(1), "a".to_owned()));
        conversions.learn(wanted, Ok(json!(2)));
        assert!(work().is_ok());
        conversions.learn(conversions.take_wanted().unwrap(), Err(ApiError::bad_request("no")));
        assert_eq!(work(), Ok((json!(2), Err("no".to_owned()))));
        assert_eq!(conversions.take_wanted(), None);
    }
}
