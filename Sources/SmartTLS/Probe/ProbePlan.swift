// Which handshakes to begin with a server, one after the other, until everything that it accepts is known. A value
// without I/O: whoever drives it makes a connection for each ClientHello and hands back what came of it.
//
// - Suites, for each version from TLS 1.3 down: offer all, take away the one that was chosen, again, until refused. A
//   version without a suite is not accepted. Some servers close on more than 128 suites: they are offered in
//   portions, the common ones first.
// - Groups likewise, under TLS 1.3 (where the answer is a HelloRetryRequest, see `ClientHello`) and under the newest
//   older version with key exchange on curves.
// - Order: the accepted suites backwards. A server that does not choose the first has an order of its own.
// - Compression, extended master secret, secure renegotiation, primes, signatures and chains are in the same answers
//   and cost no handshake.
//
// What cannot be seen: before TLS 1.3 an ECDSA certificate may only be used if its curve is offered (RFC 8422 §5.1),
// so that the curve cannot be taken away. It is then offered last, which finds the others on servers that honour the
// client's order of groups, as nearly all do; where the host also has suites with RSA, those are used instead.

/// The course of a probe.
struct ProbePlan: Sendable {
    /// What came of a handshake.
    enum Answer: Sendable, Hashable {
        /// A first flight.
        case flight(ServerFlight)
        /// An alert.
        case alert(TLSAlert)
        /// The connection was closed without a word, which is how some servers refuse.
        case closed
        /// No connection, no answer in time, or an answer that is not TLS: it says nothing.
        case failed
    }

    private enum Question: Sendable {
        case suites(ProtocolVersion, offered: [UInt16], later: [[UInt16]])
        case groups(ProtocolVersion, suites: [UInt16], offered: [UInt16], last: UInt16?)
        case order(ProtocolVersion, offered: [UInt16], first: UInt16?)
    }

    /// Suites in one ClientHello.
    static let portion = 120
    /// Different chains that are kept.
    static let maximumChains = 8
    /// Failures in a row after which the host counts as gone.
    static let maximumFailures = 3

    private let serverName: String?
    private let limit: Int
    /// What is known so far.
    private(set) var report = ProbeReport()
    private var questions: [Question]
    private var hasFollowUps = false
    private var failures = 0
    private var hasRetried = false

    /// A plan for one address.
    ///
    /// - Parameters:
    ///   - serverName: for SNI.
    ///   - versions: those that are asked for.
    ///   - limit: of handshakes, retries included. A usual server needs about forty.
    init(serverName: String?, versions: [ProtocolVersion] = ProtocolVersion.allCases, limit: Int = 200) {
        self.serverName = serverName
        self.limit = limit
        questions = versions.sorted(by: >).compactMap { version in
            let portions = Self.portions(version)
            return portions.first.map { .suites(version, offered: $0, later: Array(portions.dropFirst())) }
        }
    }

    /// The next ClientHello, for a connection of its own; nil: the plan is at its end.
    mutating func next() -> ClientHello? {
        if questions.isEmpty, !hasFollowUps {
            hasFollowUps = true
            questions = followUps()
        }
        guard let question = questions.first else { return nil }
        guard report.handshakes < limit, failures < Self.maximumFailures else {
            report.isComplete = false
            questions = []
            return nil
        }
        report.handshakes += 1
        switch question {
        case .suites(let version, let offered, _), .order(let version, let offered, _):
            return hello(version, offered, NamedGroup.offered(in: version).map(\.code))
        case .groups(let version, let suites, let offered, let last):
            return hello(version, suites, offered + (last.map { [$0] } ?? []))
        }
    }

    /// Ends the plan before its end: what is known stays.
    mutating func stop() {
        report.isComplete = false
        questions = []
        hasFollowUps = true
    }

    /// Takes what came of the ClientHello given last.
    mutating func received(_ answer: Answer) {
        guard let question = questions.first else { return }
        if case .failed = answer {
            failures += 1
            // Once more, then go on without: the rest may still be learnt.
            if !hasRetried {
                hasRetried = true
                return
            }
            report.isComplete = false
        } else {
            failures = 0
        }
        hasRetried = false
        questions.removeFirst()
        var flight: ServerFlight?
        if case .flight(let answered) = answer {
            note(answered)
            flight = answered
        }
        switch question {
        case .suites(let version, let offered, let later):
            receivedSuites(version, offered, later, flight, answer)
        case .groups(let version, let suites, let offered, let last):
            receivedGroups(version, suites, offered, last, flight)
        case .order(let version, let offered, let first):
            receivedOrder(version, offered, first, flight)
        }
    }

    private func hello(_ version: ProtocolVersion, _ suites: [UInt16], _ groups: [UInt16]) -> ClientHello {
        ClientHello(versions: version...version, suites: suites, groups: groups, serverName: serverName)
    }

    private mutating func receivedSuites(
        _ version: ProtocolVersion, _ offered: [UInt16], _ later: [[UInt16]], _ flight: ServerFlight?,
        _ answer: Answer
    ) {
        guard let flight else {
            // A server that says it does not know the version is not asked for the other suites.
            if case .alert(let alert) = answer, alert.code == TLSAlert.protocolVersion { return }
            if let portion = later.first {
                questions.insert(.suites(version, offered: portion, later: Array(later.dropFirst())), at: 0)
            }
            return
        }
        // An older version than the only one offered: it does not have this one.
        guard flight.version == version else { return }
        guard offered.contains(flight.suite) else {
            report.isComplete = false
            return
        }
        report.suites[version, default: []].append(flight.suite)
        var rest = later
        let left = offered.filter { $0 != flight.suite }
        if !left.isEmpty { rest.insert(left, at: 0) }
        if let portion = rest.first {
            questions.insert(.suites(version, offered: portion, later: Array(rest.dropFirst())), at: 0)
        }
    }

    private mutating func receivedGroups(
        _ version: ProtocolVersion, _ suites: [UInt16], _ offered: [UInt16], _ last: UInt16?,
        _ flight: ServerFlight?
    ) {
        guard let flight, let group = flight.group, flight.version == version else {
            // Refused because the curve of the certificate is gone? Once more with the one taken away last.
            let needsCurve = suites.contains { CipherSuite.with(code: $0)?.authentication == .ecdsa }
            if needsCurve, last == nil, !offered.isEmpty, let taken = report.groups[version]?.last {
                questions.insert(.groups(version, suites: suites, offered: offered, last: taken), at: 0)
            }
            return
        }
        guard group != last else { return }
        if report.groups[version]?.contains(group) != true {
            report.groups[version, default: []].append(group)
        }
        // A server that takes what was not offered would do so for ever.
        guard offered.contains(group) else { return }
        let left = offered.filter { $0 != group }
        if !left.isEmpty {
            questions.insert(.groups(version, suites: suites, offered: left, last: last), at: 0)
        }
    }

    private mutating func receivedOrder(
        _ version: ProtocolVersion, _ offered: [UInt16], _ first: UInt16?, _ flight: ServerFlight?
    ) {
        guard let flight, flight.version == version else {
            report.isComplete = false
            return
        }
        if let first {
            report.prefersOwnOrder[version] = flight.suite == first
        } else if flight.suite != offered.first {
            report.prefersOwnOrder[version] = true
        } else {
            // Its own order or ours: the other way round it tells.
            questions.insert(.order(version, offered: offered.reversed(), first: flight.suite), at: 0)
        }
    }

    /// Groups and orders, once the suites are known.
    private func followUps() -> [Question] {
        var questions: [Question] = []
        let older = report.versions.last { version in
            version < .tls13 && !Self.onCurves(report.suites[version] ?? []).isEmpty
        }
        for version in [ProtocolVersion.tls13, older] {
            guard let version, let suites = report.suites[version] else { continue }
            let used = version == .tls13 ? suites : Self.onCurves(suites)
            let groups = NamedGroup.offered(in: version).map(\.code)
            questions.append(.groups(version, suites: used, offered: groups, last: nil))
        }
        for version in report.versions.reversed() {
            guard let suites = report.suites[version]?.prefix(Self.portion), suites.count > 1 else {
                continue
            }
            questions.append(.order(version, offered: suites.reversed(), first: nil))
        }
        return questions
    }

    /// The suites whose ServerKeyExchange names a curve; only those not tied to the curve of a certificate, if any.
    private static func onCurves(_ suites: [UInt16]) -> [UInt16] {
        let onCurves = suites.compactMap(CipherSuite.with).filter { $0.keyExchange == .ecdhe }
        let untied = onCurves.filter { $0.authentication != .ecdsa }
        return Array((untied.isEmpty ? onCurves : untied).map(\.code).prefix(portion))
    }

    /// What any flight tells besides what was asked.
    private mutating func note(_ flight: ServerFlight) {
        if let prime = flight.prime { report.primes.insert(prime) }
        if let signature = flight.signature { report.exchangeSignatures.insert(signature) }
        if !flight.chain.isEmpty, report.chains.count < Self.maximumChains,
            !report.chains.contains(flight.chain)
        {
            report.chains.append(flight.chain)
        }
        guard flight.version < .tls13 else { return }
        report.compresses = flight.compresses || report.compresses == true
        report.isRenegotiationSecure = flight.isRenegotiationSecure && report.isRenegotiationSecure != false
        // Asked from the newest version down: the first says it.
        if report.hasExtendedMasterSecret == nil {
            report.hasExtendedMasterSecret = flight.hasExtendedMasterSecret
        }
    }

    private static func portions(_ version: ProtocolVersion) -> [[UInt16]] {
        let allowed = CipherSuite.all.filter { $0.isAllowed(in: version) }
        let common = allowed.filter(\.isCommon)
        let codes = (common + allowed.filter { !$0.isCommon }).map(\.code)
        return stride(from: 0, to: codes.count, by: portion).map { start in
            Array(codes[start..<min(start + portion, codes.count)])
        }
    }
}

extension CipherSuite {
    /// Whether servers on the Internet are likely to have it: RSA and ECDSA, not weakened, keys of one handshake or
    /// encrypted to RSA.
    fileprivate var isCommon: Bool {
        guard isTLS13 || authentication == .rsa || authentication == .ecdsa else { return false }
        return !isExport && keyExchange != .dh && keyExchange != .ecdh
    }
}
