//! The listener. A seam until it is built.
