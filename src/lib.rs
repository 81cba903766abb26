pub mod wire;
pub mod sql;
pub mod tenant;
