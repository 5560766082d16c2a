//! Single packets at the TC hook that came in on a queue: the kernel lets tests say so only through a program that does
//! so and then calls the one that is tested.

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{MapData, ProgramArray},
};

use super::{
    Datapath, DatapathError,
    driver::{OBJECT, take},
    error::{answer, with_sources},
    load::{buffer, classifier, tc},
    refusal::refused,
};

const PROGRAM: &str = "bench_queue";

/// The loaded program, with that of a data plane behind it.
pub struct QueueDriver {
    object: Ebpf,
    /// The kernel empties an array of programs that no user holds any more.
    _target: ProgramArray<MapData>,
}

impl QueueDriver {
    /// Loads the program and puts the translating program of `datapath` behind it.
    ///
    /// # Errors
    /// [`DatapathError::Setup`], [`DatapathError::Load`] or [`DatapathError::Access`] if the kernel refuses.
    pub fn load(datapath: &mut Datapath) -> Result<Self, DatapathError> {
        let loaded = EbpfLoader::new().load(OBJECT);
        let mut object = loaded.map_err(|error| DatapathError::Setup(with_sources(&error)))?;
        let loaded = classifier(&mut object, PROGRAM).load();
        loaded.map_err(refused(PROGRAM))?;
        let mut target: ProgramArray<_> = take(&mut object, "BENCH_TC")?;
        let program = tc(&mut datapath.object).fd().map_err(DatapathError::access("read", "BENCH_TC"))?;
        target.set(0, program, 0).map_err(DatapathError::access("write", "BENCH_TC"))?;
        Ok(Self { object, _target: target })
    }

    /// As [`Datapath::translate_tc`], as if the frame came in on this `queue` of the interface.
    ///
    /// # Errors
    /// [`DatapathError::TestRun`] if the kernel refuses.
    pub fn translate(
        &mut self,
        frame: &[u8],
        ingress: u32,
        queue: u32,
    ) -> Result<(u32, Vec<u8>), DatapathError> {
        let mut out = vec![0; frame.len() + 256];
        let context = buffer(ingress, queue + 1);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = classifier(&mut self.object, PROGRAM).test_run(options);
        let result =
            result.map_err(|error| DatapathError::TestRun { program: PROGRAM, cause: answer(error) })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}
