//! The client that every component uses: typed and raw requests over a [`transport::Transport`], in process or across the
//! world. It never knows which, and never what the server does with a request.

pub mod api;
pub mod error;
pub mod https;
pub mod kubeconfig;
pub mod meter;
pub mod transport;
pub mod watch;

pub use api::{Api, Client, DeleteOptions, ListOptions, Patch, Preconditions};
pub use error::{ClientError, ErrorStatus};
pub use watch::{WatchEvent, WatchOptions, WatchStream};
