//! Many links at once. Making and removing sockets and interfaces mostly waits for the kernel to
//! be sure that nobody reads what is changed (RCU), and waiting can be shared: a thousand links
//! built one after the other take minutes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{Link, LinkError, LinkSpec};

/// Threads that wait for the kernel.
const THREADS: usize = 24;

impl Link {
    /// Builds links side by side, and returns them in the order of their specifications.
    ///
    /// # Errors
    /// The first link that could not be built; the others are taken down again.
    pub fn build_all(specs: &[LinkSpec<'_>]) -> Result<Vec<Link>, LinkError> {
        let built = side_by_side(specs.len(), |number| Link::build(&specs[number]))?;
        let (built, failed): (Vec<_>, Vec<_>) = built.into_iter().partition(Result::is_ok);
        let links: Vec<Link> = built.into_iter().filter_map(Result::ok).collect();
        match failed.into_iter().find_map(Result::err) {
            None => Ok(links),
            Some(error) => {
                Link::take_down_all(links);
                Err(error)
            }
        }
    }

    /// Takes links down side by side, as dropping each of them does.
    pub fn take_down_all(links: Vec<Link>) {
        let places: Vec<Mutex<Option<Link>>> = links
            .into_iter()
            .map(|link| Mutex::new(Some(link)))
            .collect();
        // Where no thread can be started they go one by one when this returns.
        let _ = side_by_side(places.len(), |number| {
            let link = places[number].lock();
            drop(link.unwrap_or_else(PoisonError::into_inner).take());
        });
    }
}

/// Does something for every number below `count` on several threads; returns the results in order.
pub(crate) fn side_by_side<T: Send>(
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Result<Vec<T>, LinkError> {
    let next = AtomicUsize::new(0);
    let name = "hx-together";
    let results = thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..count.min(THREADS) {
            let work = || {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return done;
                    }
                    done.push((number, work(number)));
                }
            };
            let thread = thread::Builder::new().name(name.to_owned());
            match thread.spawn_scoped(scope, work) {
                Ok(thread) => threads.push(thread),
                // The others do its share.
                Err(_) if !threads.is_empty() => break,
                Err(source) => {
                    let name = name.to_owned();
                    return Err(LinkError::Thread { name, source });
                }
            }
        }
        let mut results = Vec::with_capacity(count);
        for thread in threads {
            let done = thread.join().map_err(|_panic| LinkError::ThreadGone {
                link: "many".to_owned(),
                name: "together",
            })?;
            results.extend(done);
        }
        Ok(results)
    });
    let mut results: Vec<(usize, T)> = results?;
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_numbers_and_each_is_done_once() {
        let done = AtomicUsize::new(0);
        let results = side_by_side(1000, |number| {
            done.fetch_add(1, Ordering::Relaxed);
            number * 2
        });
        let expected: Vec<usize> = (0..1000).map(|number| number * 2).collect();
        assert_eq!(results.unwrap(), expected);
        assert_eq!(done.into_inner(), 1000);
        assert_eq!(side_by_side(0, |_| ()).unwrap(), []);
    }
}
