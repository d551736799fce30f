//! Whether a constant that was chosen on some sets holds on others: chosen on every three of them, tested on the rest.

use std::path::PathBuf;

use couplet_proxy::attribution::Settings;

use crate::SETS;
use crate::score::Score;
use crate::{measured, traces};

/// Values of [`Settings::doubt`] to choose from, the most cautious first.
const VALUES: [f64; 6] = [0.2, 0.25, 0.3, 0.35, 0.4, 0.5];
/// Chosen with the first way to time the traces anew, tested with all.
const SEEDS: [u32; 3] = [1, 2, 3];
const CHOSEN_ON: usize = 3;
/// Stated links that must be right, %, in services with up to six handlers in flight and in all.
const LIGHT: f64 = 97.0;
const ALL: f64 = 95.0;

/// What came of one value on one set: right of all that is stated and of services with few in flight, at the worst of
/// its rates, by seed; and the share that is stated, over all rates and seeds.
struct Outcome {
    worst: Vec<(f64, f64)>,
    cover: f64,
}

impl Outcome {
    fn of(scores: &[Vec<Score>]) -> Self {
        let worst = scores.iter().map(|rates| {
            let least = |right: fn(&Score) -> Option<f64>| rates.iter().filter_map(right).fold(100.0, f64::min);
            (least(Score::right_of_all), least(Score::right_of_light))
        });
        let cover = scores.iter().flatten().map(Score::cover).sum::<f64>();
        let count = scores.iter().flatten().count();
        Self { worst: worst.collect(), cover: cover / count as f64 }
    }

    fn holds(&self, seeds: usize) -> bool {
        self.worst.iter().take(seeds).all(|(all, light)| *all >= ALL && *light >= LIGHT)
    }
}

/// Prints what each value comes to, and what is chosen on every three sets and how it does on the others.
pub(crate) fn print(path: impl Fn(&str) -> PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let mut table: Vec<(&str, Vec<Outcome>)> = Vec::new();
    for (set, rates, most) in SETS.into_iter().filter(|(set, ..)| path(set).exists()) {
        let traces = traces::read(&path(set), most)?;
        let mut outcomes = Vec::new();
        for doubt in VALUES {
            let by_seed = SEEDS.map(|seed| {
                let settings = Settings { doubt, ..Settings::default() };
                let score = |rate: &str| rate.parse().map(|rate| measured(&traces, rate, seed, &settings));
                rates.split(',').map(score).collect::<Result<Vec<_>, _>>()
            });
            outcomes.push(Outcome::of(&by_seed.into_iter().collect::<Result<Vec<_>, _>>()?));
        }
        table.push((set, outcomes));
    }
    println!(
        "doubt  | of each set, the worst of its rates and seeds: right of all, right up to six in flight, stated on average, %"
    );
    for (n, doubt) in VALUES.iter().enumerate() {
        let cell = |(set, outcomes): &(&str, Vec<Outcome>)| {
            let Outcome { worst, cover } = &outcomes[n];
            let least = |of: fn(&(f64, f64)) -> f64| worst.iter().map(of).fold(100.0, f64::min);
            format!("{set} {:.1} {:.1} {cover:.1}", least(|w| w.0), least(|w| w.1))
        };
        println!("{doubt:6} | {}", table.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    println!(
        "\nchosen on                          | doubt | on the others, three seeds: right of all, up to six in flight, %"
    );
    for chosen in 0..1usize << table.len() {
        if chosen.count_ones() as usize != CHOSEN_ON {
            continue;
        }
        let (on, off): (Vec<_>, Vec<_>) = (0..table.len()).partition(|set| chosen & (1 << set) != 0);
        let names = |sets: &[usize]| sets.iter().map(|set| table[*set].0).collect::<Vec<_>>().join(" ");
        let best = (0..VALUES.len()).rfind(|n| on.iter().all(|set| table[*set].1[*n].holds(1)));
        let Some(best) = best else {
            println!("{:34} | none", names(&on));
            continue;
        };
        let cell = |set: &usize| {
            let worst = &table[*set].1[best].worst;
            let least = |of: fn(&(f64, f64)) -> f64| worst.iter().map(of).fold(100.0, f64::min);
            format!("{} {:.1} {:.1}", table[*set].0, least(|w| w.0), least(|w| w.1))
        };
        println!("{:34} | {:5} | {}", names(&on), VALUES[best], off.iter().map(cell).collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
