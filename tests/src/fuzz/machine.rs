//! The data plane and the model side by side, given the same steps.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{Ipv4Addr, SocketAddrV4},
};

use nat_common::{counter::Counters, drop::DropReason};
use nix::time::{ClockId, clock_gettime};

use crate::{
    datapath::{Outcome, Rig, Side, addressed},
    model::{Answer, Model, Mutation, Protocol, Summary},
};

use super::{
    configuration::Configuration,
    step::{Spec, Step},
};

/// Counters that tell how, and not what: how many ports were tried, and how often the kernel was asked.
const INNER: [&str; 2] = ["port_tries", "hop_lookups"];
/// Longer than any session lives without a packet, in ticks.
const FOREVER: u32 = 1 << 20;
/// How many steps lie between two looks at everything.
const LOOK: u32 = 100;

/// Where data plane and model differ.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The number of the step, from 0.
    pub step: usize,
    /// What differs.
    pub what: String,
}

/// A data plane and a model.
pub struct Machine {
    rig: Rig,
    model: Model,
    configuration: Configuration,
    /// How much later it is than the clock of this machine says.
    ahead: u64,
    counters: BTreeMap<&'static str, u64>,
    drops: BTreeMap<&'static str, u64>,
    since_look: u32,
    /// Counters and drop reasons that have moved, and how often.
    pub reached: BTreeMap<&'static str, u64>,
    /// Packets that both were given.
    pub packets: u64,
}

impl Machine {
    /// Both with the standard configuration, and the model with a mistake if one is asked for. The rig takes this thread.
    #[must_use]
    pub fn new(mutation: Option<Mutation>) -> Self {
        let configuration = Configuration::default();
        let mut machine = Self {
            rig: Rig::with(&configuration.layout()),
            model: Model::new(configuration.world(), mutation),
            configuration,
            ahead: 0,
            counters: BTreeMap::new(),
            drops: BTreeMap::new(),
            since_look: 0,
            reached: BTreeMap::new(),
            packets: 0,
        };
        machine.recall();
        machine
    }

    /// The model makes this mistake from now on, or none.
    pub fn mistake(&mut self, mutation: Option<Mutation>) {
        self.model.mistake(mutation);
    }

    /// Gives both a fresh start and then every step; the first one that they differ over.
    ///
    /// # Errors
    /// What they differ over.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), Disagreement> {
        self.begin();
        let last = steps.len().saturating_sub(1);
        for (number, step) in steps.iter().enumerate() {
            let outcome = self.step(step).and_then(|()| {
                self.since_look += 1;
                if self.since_look >= LOOK || number == last { self.look() } else { Ok(()) }
            });
            outcome.map_err(|what| Disagreement { step: number, what })?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.rig.let_pass(FOREVER);
        self.rig.end_idle();
        self.rig.forget_fragments();
        if self.configuration != Configuration::default() {
            self.configuration = Configuration::default();
            self.rig.apply(&self.configuration.layout());
        }
        self.model.reset(self.configuration.world());
        self.since_look = 0;
        self.recall();
    }

    /// Counts on from where the data plane is.
    fn recall(&mut self) {
        let counters = self.read_counters();
        self.counters = counters.into_iter().collect();
        self.drops = DropReason::ALL.iter().map(|reason| (reason.name(), self.read_drops(*reason))).collect();
    }

    fn read_counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.rig.maps().counters().expect("COUNTERS can be read");
        let named = Counters::NAMES.iter().copied().zip(counters.values());
        named.filter(|(name, _)| !INNER.contains(name)).collect()
    }

    fn read_drops(&self, reason: DropReason) -> u64 {
        self.rig.maps().drops(reason).expect("DROPS can be read")
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Packet(spec) => return self.packet(spec),
            Step::Pass(ticks) => {
                self.rig.let_pass(*ticks);
                self.ahead += u64::from(*ticks);
            }
            Step::Age => {
                self.rig.end_idle();
                self.model.set_clock(self.now());
                let moved = self.model.age();
                self.count(&moved);
                self.check_counters()?;
            }
            Step::Renew => {
                self.rig.renew_generation();
                self.model.renew();
            }
            Step::Configure(configuration) => return self.configure(*configuration),
        }
        Ok(())
    }

    /// Puts another configuration into force. Sessions do not outlive the kind of their mappings here.
    fn configure(&mut self, configuration: Configuration) -> Result<(), String> {
        if configuration.kind() != self.configuration.kind() {
            self.rig.let_pass(FOREVER);
            self.ahead += u64::from(FOREVER);
            self.step(&Step::Age)?;
        }
        self.configuration = configuration;
        self.rig.apply(&configuration.layout());
        self.model.configure(configuration.world());
        Ok(())
    }

    fn packet(&mut self, spec: &Spec) -> Result<(), String> {
        let model = &mut self.model;
        let frame = spec.frame(&mut |protocol, internal, remote| model.external(protocol, internal, remote));
        let frame = addressed(spec.arrives, frame);
        let outcome = self.rig.send(spec.arrives, &frame[..]);
        // What is handed to the controller stays with it here.
        self.rig.slow();
        self.packets += 1;
        self.model.set_clock(self.now());
        let rig = &self.rig;
        let answer = self.model.process(spec.arrives, &frame, &outcome, &|protocol, internal, remote| {
            lent(rig, protocol, internal, remote)
        });
        let mut problems = differences(&outcome, &answer);
        if let Some(complaint) = &answer.complaint {
            let _ = writeln!(problems, "{complaint}");
        }
        self.count(&answer.moved);
        if let Err(counters) = self.check_counters() {
            problems += &counters;
        }
        if let Some(reason) = answer.reason {
            *self.reached.entry(reason).or_insert(0) += 1;
            problems += &self.check_drops(reason);
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(explain(spec.arrives, &frame, &outcome, &answer, &problems))
        }
    }

    /// The tick of this moment.
    fn now(&self) -> u64 {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
        let nanoseconds = time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64;
        (nanoseconds >> 30) + self.ahead
    }

    fn count(&mut self, moved: &[(&'static str, u64)]) {
        for (name, by) in moved {
            *self.counters.entry(name).or_insert(0) += by;
            *self.reached.entry(name).or_insert(0) += 1;
        }
    }

    fn check_counters(&self) -> Result<(), String> {
        let mut problems = String::new();
        for (name, value) in self.read_counters() {
            let wanted = self.counters[name];
            if value != wanted {
                let _ = writeln!(problems, "{name} differs by {}", value.wrapping_sub(wanted) as i64);
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Whether one more packet was refused for this reason, and nothing else has happened to it.
    fn check_drops(&mut self, name: &'static str) -> String {
        let Some(reason) = DropReason::ALL.iter().find(|reason| reason.name() == name) else {
            return format!("there is no drop reason {name}\n");
        };
        let now = self.read_drops(*reason);
        let before = self.drops.insert(name, now).unwrap_or_default();
        if now == before + 1 { String::new() } else { format!("{name} is counted {}\n", now - before) }
    }

    /// Compares everything.
    fn look(&mut self) -> Result<(), String> {
        self.since_look = 0;
        for reason in DropReason::ALL {
            let (now, wanted) = (self.read_drops(*reason), self.drops[reason.name()]);
            if now != wanted {
                return Err(format!("{} is counted {} times more\n", reason.name(), now - wanted));
            }
        }
        let (real, wanted) = (self.sessions(), self.model.sessions());
        if real == wanted {
            return Ok(());
        }
        let mut text =
            String::from("the sessions differ (protocol, host, external, remote, phase, traffic)\n");
        for session in real.iter().filter(|session| !wanted.contains(session)) {
            let _ = writeln!(text, "  data plane {session:?}");
        }
        for session in wanted.iter().filter(|session| !real.contains(session)) {
            let _ = writeln!(text, "  model      {session:?}");
        }
        Err(text)
    }

    /// The data plane's sessions, told as the model tells its own.
    fn sessions(&self) -> Vec<Summary> {
        use crate::model::Phase;
        let phases = [Phase::Opening, Phase::Established, Phase::HalfClosed, Phase::Closing];
        let named = |name: String| phases.into_iter().find(|phase| format!("{phase:?}") == name);
        let sessions = self.rig.sessions();
        let mut sessions: Vec<_> = sessions
            .iter()
            .map(|session| {
                let [internal, external, remote] = [session.internal, session.external, session.remote]
                    .map(|endpoint| (*endpoint.ip(), endpoint.port()));
                let phase = session.phase.and_then(|phase| named(format!("{phase:?}")));
                let (out, back) = (session.outbound, session.inbound);
                let traffic = [out.packets, out.bytes, back.packets, back.bytes];
                (session.protocol, internal, external, remote, phase, traffic)
            })
            .collect();
        sessions.sort_unstable();
        sessions
    }
}

/// The external endpoint of a session in the data plane.
fn lent(
    rig: &Rig,
    protocol: Protocol,
    internal: (Ipv4Addr, u16),
    remote: (Ipv4Addr, u16),
) -> Option<(Ipv4Addr, u16)> {
    let sessions = rig.sessions();
    let of = |end: SocketAddrV4| (*end.ip(), end.port());
    let found = sessions.iter().find(|session| {
        session.protocol == protocol && of(session.internal) == internal && of(session.remote) == remote
    });
    found.map(|session| of(session.external))
}

fn differences(outcome: &Outcome, answer: &Answer) -> String {
    let mut problems = String::new();
    if outcome.verdict != answer.verdict {
        let _ = writeln!(problems, "verdict: {:?}, and not {:?}", outcome.verdict, answer.verdict);
    }
    if outcome.frame != answer.frame {
        let _ = writeln!(problems, "the frame that leaves differs");
    }
    problems
}

/// What a person needs to judge who is wrong.
fn explain(side: Side, frame: &[u8], outcome: &Outcome, answer: &Answer, problems: &str) -> String {
    let hex = |bytes: &[u8]| {
        let line = |chunk: &[u8]| chunk.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
        bytes.chunks(16).map(|chunk| format!("   {}\n", line(chunk))).collect::<String>()
    };
    let mut text = format!("{problems}came on {}:\n{}", side.device(), hex(frame));
    let _ = write!(text, "data plane ({:?}):\n{}", outcome.verdict, hex(&outcome.frame));
    let _ = write!(text, "model ({:?}, {:?}):\n{}", answer.verdict, answer.reason, hex(&answer.frame));
    text
}
