//! A belt around decoders of others, which assert and unwrap what they believe of bytes.
//!
//! Promises: a wrong belief there refuses the file, ends nothing, and leaves no line on standard error that a stranger's
//! file put there. For that the process gets a panic hook, once: it is silent on a thread that wears the belt, and calls
//! the hook that was there before for every other panic. A program that sets a hook of its own later decides anew.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

static HOOK: Once = Once::new();

thread_local! {
    static IS_WORN: Cell<bool> = const { Cell::new(false) };
}

/// Returns what `work` returns, or nothing where it panics. What it changes must not outlive it.
pub(super) fn belted<T>(work: impl FnOnce() -> T) -> Option<T> {
    HOOK.call_once(quieten);
    let before = IS_WORN.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work)).ok();
    IS_WORN.set(before);
    done
}

fn quieten() {
    // Hooks cannot be changed on a thread that unwinds; it has said its line already.
    if std::thread::panicking() {
        return;
    }
    let before = take_hook();
    set_hook(Box::new(move |panic| {
        // A thread that ends has no locals any more; its panics are told.
        if !IS_WORN.try_with(Cell::get).unwrap_or_default() {
            before(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing_and_the_belt_comes_off_again() {
        assert_eq!(belted(|| 7), Some(7));
        assert_eq!(belted(|| -> u32 { panic!("a decoder is wrong") }), None);
        assert!(!IS_WORN.get(), "later panics of this thread are told");
        let inner = belted(|| (belted(|| -> u32 { panic!("inside") }), IS_WORN.get()));
        assert_eq!(inner, Some((None, true)), "it stays on until the outer one ends");
    }
}
