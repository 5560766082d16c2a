//! Leaves of a sequence what it takes to see a disagreement.

use super::{machine::Machine, step::Step};

/// How often a shorter sequence is tried: the data plane may choose other ports each time.
const TRIES: usize = 6;

/// The shortest part of a sequence over which data plane and model still differ. What comes after the disagreement at
/// `step` is left out first.
pub fn shrink(machine: &mut Machine, steps: &[Step], step: usize) -> Vec<Step> {
    let mut left = steps[..=step].to_vec();
    let mut differs = |steps: &[Step]| (0..TRIES).any(|_| machine.run(steps).is_err());
    let mut chunk = left.len().div_ceil(2);
    while chunk > 0 {
        let mut end = left.len();
        while end > 0 {
            let start = end.saturating_sub(chunk);
            let without = [&left[..start], &left[end..]].concat();
            if !without.is_empty() && differs(&without) {
                left = without;
            }
            end = start;
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    plain(&mut left, &mut differs);
    left
}

/// Makes the packets that are left as usual as they can be.
fn plain(steps: &mut [Step], differs: &mut impl FnMut(&[Step]) -> bool) {
    use super::step::Spec;
    let changes: [fn(&mut Spec); 6] = [
        |spec| spec.padding = 0,
        |spec| spec.service = 0,
        |spec| spec.ttl = 64,
        |spec| spec.fragment = 0x4000,
        |spec| spec.options.clear(),
        |spec| spec.damage.clear(),
    ];
    for place in 0..steps.len() {
        for change in changes {
            let before = steps[place].clone();
            let Step::Packet(spec) = &mut steps[place] else { break };
            change(spec);
            if steps[place] != before && !differs(steps) {
                steps[place] = before;
            }
        }
    }
}
