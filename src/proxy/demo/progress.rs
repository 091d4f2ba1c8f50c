//! A progress bar in a few lines.

use std::io::IsTerminal;
use std::io::Write;
use std::io::stderr;
use std::time::Duration;

use crate::time::now;

const WIDTH: usize = 40;
const FRAME: Duration = Duration::from_millis(100);

/// Runs a future that takes about this long, with a bar on stderr beside it. Without a terminal there is only one line.
pub(super) async fn beside<F: Future>(label: &str, time: Duration, work: F) -> F::Output {
    if !stderr().is_terminal() {
        eprintln!("{label} ...");
        return work.await;
    }
    let done = tokio::select! {
        done = work => done,
        never = draw(label, time) => match never {},
    };
    // "\x1b[K" clears to the end of the line.
    eprint!("\r\x1b[K");
    done
}

async fn draw(label: &str, time: Duration) -> std::convert::Infallible {
    let start = now();
    let mut frames = tokio::time::interval(FRAME);
    loop {
        let elapsed = frames.tick().await.saturating_duration_since(start);
        eprint!("\r{}", bar(label, elapsed, time));
        let _ = stderr().flush();
    }
}

fn bar(label: &str, elapsed: Duration, time: Duration) -> String {
    let total = time.as_millis().max(1);
    let filled = usize::try_from(elapsed.as_millis() * WIDTH as u128 / total).unwrap_or(WIDTH).min(WIDTH);
    let left = time.saturating_sub(elapsed).as_secs_f64().ceil();
    format!("{label:<18} [{}{}] {left:>3} s", "#".repeat(filled), "-".repeat(WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_stays_in_its_frame() {
        let time = Duration::from_secs(4);
        assert_eq!(bar("x", Duration::ZERO, time).matches('#').count(), 0);
        assert_eq!(bar("x", Duration::from_secs(1), time).matches('#').count(), WIDTH / 4);
        assert_eq!(bar("x", Duration::from_secs(9), time), format!("{:<18} [{}]   0 s", "x", "#".repeat(WIDTH)));
        assert_eq!(bar("x", Duration::ZERO, Duration::ZERO).matches('-').count(), WIDTH);
    }
}
