//! Containers, processes and the demo.
