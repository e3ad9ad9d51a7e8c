// What a probe learnt of one address of a host.

/// The parameters a server accepts. Nothing here is judged: `HostGrade` does that.
struct ProbeReport: Sendable, Hashable {
    /// The suites accepted in each version, by number, in the order in which the server chose them; a version without
    /// any is not accepted.
    var suites: [ProtocolVersion: [UInt16]] = [:]
    /// The groups accepted, by number, in the order in which the server chose them: under TLS 1.3, and under the newest
    /// older version that exchanges keys on curves.
    var groups: [ProtocolVersion: [UInt16]] = [:]
    /// The primes of Diffie-Hellman before TLS 1.3.
    var primes: Set<DiffieHellmanPrime> = []
    /// How key exchanges were signed in TLS 1.2, by number.
    var exchangeSignatures: Set<UInt16> = []
    /// Whether the server's order of suites counts and not the client's, where there is more than one suite.
    var prefersOwnOrder: [ProtocolVersion: Bool] = [:]
    /// Whether the server compresses when asked to; nil when it speaks no version that could.
    var compresses: Bool?
    /// Whether the newest version before TLS 1.3 has the extended master secret; nil without such a version.
    var hasExtendedMasterSecret: Bool?
    /// Whether renegotiation is secure in every version that has it; nil without such a version.
    var isRenegotiationSecure: Bool?
    /// Whether tickets of TLS 1.3 allow data before the end of a handshake; nil: not known, or no TLS 1.3.
    var takesEarlyData: Bool?
    /// How often a client could renegotiate under TLS 1.2, up to `FinishedQuestion.mostRenegotiations`; nil: not known, or no TLS 1.2.
    var renegotiations: Int?
    /// The different chains presented before TLS 1.3: hosts may have one with RSA and one with ECDSA.
    var chains: [[[UInt8]]] = []
    /// How many handshakes were begun.
    var handshakes = 0
    /// Whether every question was answered: what is here is here in any case, what is missing may be missing only for
    /// want of an answer otherwise.
    var isComplete = true

    /// The versions accepted, the oldest first.
    var versions: [ProtocolVersion] { suites.keys.sorted() }

    /// Adds what a plan for other versions learnt of the same address.
    mutating func merge(_ other: ProbeReport) {
        suites.merge(other.suites) { one, _ in one }
        groups.merge(other.groups) { one, _ in one }
        primes.formUnion(other.primes)
        exchangeSignatures.formUnion(other.exchangeSignatures)
        prefersOwnOrder.merge(other.prefersOwnOrder) { one, _ in one }
        compresses = compresses ?? other.compresses
        hasExtendedMasterSecret = hasExtendedMasterSecret ?? other.hasExtendedMasterSecret
        isRenegotiationSecure = isRenegotiationSecure ?? other.isRenegotiationSecure
        takesEarlyData = takesEarlyData ?? other.takesEarlyData
        renegotiations = renegotiations ?? other.renegotiations
        chains += other.chains
        handshakes += other.handshakes
        isComplete = isComplete && other.isComplete
    }
}
