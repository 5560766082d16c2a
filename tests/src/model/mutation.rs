//! Mistakes on purpose: a fuzzer that does not find them finds nothing else either.

macro_rules! mutations {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A rule of the model that is broken on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutation {
            /// Every mutation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

mutations! {
    /// The TTL is not lowered.
    TtlStays,
    /// A packet of TTL 1 is forwarded.
    TtlOneLeaves,
    /// A RST ends its session at once.
    ResetEndsAtOnce,
    /// What comes to an external endpoint is let in from any port of the remote.
    AnyRemotePort,
    /// An ICMP error keeps its session alive.
    ErrorRefreshes,
    /// An ICMP error ends its session.
    ErrorEnds,
    /// A UDP checksum of zero is computed.
    ZeroChecksumComputed,
    /// A closed connection has the timeout of an established one.
    ClosedLivesOn,
    /// The FIN of one side closes a connection.
    OneFinCloses,
    /// A SYN does not begin anew.
    SynBeginsNothing,
    /// What the remote sends keeps no session alive.
    InboundRefreshesNothing,
    /// A session may begin with an echo reply.
    ReplyOpens,
    /// A TCP session may begin with any segment.
    AnySegmentOpens,
    /// The checksum of a quoted IP header is not kept right.
    QuotedSumStays,
    /// The port of a quoted packet is not restored.
    QuotedPortStays,
    /// A port is lent once, whatever the remote.
    PortLentOnce,
    /// A wrong TCP or UDP checksum is made right.
    ChecksumsRepaired,
    /// An outside packet opens a session.
    OutsideOpens,
    /// A refused packet keeps its session alive.
    RefusedRefreshes,
    /// A RST ends its session early, whatever its sequence number.
    AnyResetIsBelieved,
    /// A packet that may be fragmented keeps its identification.
    IdentificationStays,
    /// An ICMP error with a wrong checksum is believed.
    WrongErrorBelieved,
    /// Padding of a frame is cut off.
    PaddingCut,
}
