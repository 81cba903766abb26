//! The lock around what threads share. In unit tests it is the model checker's: only `desk_model` takes it.

#[cfg(test)]
pub(super) use checked::Mutex;
#[cfg(not(test))]
pub(super) use parking_lot::Mutex;

#[cfg(test)]
mod checked {
    use shuttle::sync::MutexGuard;

    #[derive(Debug)]
    pub(in crate::pool) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::pool) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(in crate::pool) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a panic under the lock ends the model")
        }
    }
}
