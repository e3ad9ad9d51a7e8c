// Asks hosts what they accept, one unfinished handshake after another, as `ProbePlan` says, and then, on two that are finished, what
// shows only there (`FinishedProbe`). Whatever a host does, it costs no
// more than its bounds, and the others nothing: what is known when a bound is reached is the report.

import NIOCore
import NIOPosix
import TLS

/// The bounds of a prober.
public struct ProbeLimits: Sendable {
    /// Connections at once to one address: 1, or 2 (TLS 1.3 and older versions are then asked for side by side).
    public var connectionsPerHost = 2
    /// Connections at once, to all hosts together.
    public var connections = 64
    /// How long a host may take for each reply, and for its first flight.
    public var step: Duration = .seconds(10)
    /// How long one address may be occupied with the questions of one series; waiting for `connections` does not count.
    public var host: Duration = .seconds(30)
    /// How long what was found answers for the same address again: many domains share a host.
    public var keep: Duration = .seconds(300)

    /// Those of a prober whose results others keep: each scan is a new one.
    public static var keepingNothing: ProbeLimits {
        var limits = ProbeLimits()
        limits.keep = .zero
        return limits
    }

    /// The defaults.
    public init() {}
}

/// What a scan of one address found.
struct HostScan: Sendable {
    /// What it accepts, as far as it is known.
    var report = ProbeReport()
    /// What kept the report from being complete, the last of it; nil: nothing did, or some questions have no answer.
    var failure: SessionFailure?
}

/// Scans hosts. No listener, no mail: a connection ends at the server's first flight, two of them behind EHLO.
public actor HostProber {
    private struct Site: Hashable {
        let address: SocketAddress
        let serverName: String?
    }

    private struct Kept {
        let scan: Task<HostScan, Never>
        let until: ContinuousClock.Instant
    }

    private let group: any EventLoopGroup
    private let heloName: String
    private let sourceAddress: String?
    private let limits: ProbeLimits
    /// What finished handshakes are made with; nil where OpenSSL could not.
    private let finishing: [FinishedQuestion: TLSContext]
    private var kept: [Site: Kept] = [:]
    private var free: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    /// - Parameters:
    ///   - heloName: our name in EHLO.
    ///   - sourceAddress: the local address of its family to connect from; nil: the system's choice.
    public init(
        group: any EventLoopGroup, heloName: String, sourceAddress: String?,
        limits: ProbeLimits = ProbeLimits()
    ) {
        self.group = group
        self.heloName = heloName
        self.sourceAddress = sourceAddress
        self.limits = limits
        finishing = [
            .earlyData: try? TLSContext.client(trust: .none, minimumVersion: .tls13),
            .renegotiation: try? TLSContext.client(
                trust: .none, maximumVersion: .tls12, renegotiates: true),
        ].compactMapValues(\.self)
        free = max(1, limits.connections)
    }

    /// What an address accepts. Whoever asks for the same meanwhile, or soon after, gets the same answer.
    ///
    /// - Parameter serverName: for SNI; nil where an address was routed to.
    func scan(_ address: SocketAddress, serverName: String?) async -> HostScan {
        let site = Site(address: address, serverName: serverName)
        let now = ContinuousClock.now
        kept = kept.filter { $0.value.until > now }
        if let known = kept[site] { return await known.scan.value }
        let scan = Task { await ask(site) }
        kept[site] = Kept(scan: scan, until: now + limits.keep)
        return await scan.value
    }

    private nonisolated func ask(_ site: Site) async -> HostScan {
        let series: [[ProtocolVersion]] =
            limits.connectionsPerHost > 1
            ? [[.tls13], ProtocolVersion.allCases.filter { $0 < .tls13 }] : [ProtocolVersion.allCases]
        var scan = await withTaskGroup(of: HostScan.self) { group in
            for versions in series {
                group.addTask {
                    await self.follow(ProbePlan(serverName: site.serverName, versions: versions), site)
                }
            }
            return await group.reduce(into: HostScan()) { whole, part in
                whole.report.merge(part.report)
                whole.failure = whole.failure ?? part.failure
            }
        }
        if scan.report.versions.contains(.tls13) {
            scan.report.handshakes += 1
            scan.report.takesEarlyData = await finish(.earlyData, site).map { $0 > 0 }
        }
        if scan.report.versions.contains(.tls12) {
            scan.report.handshakes += 1
            scan.report.renegotiations = await finish(.renegotiation, site)
        }
        return scan
    }

    /// Asks what shows only on a finished handshake; nil: it could not be asked.
    private nonisolated func finish(_ question: FinishedQuestion, _ site: Site) async -> Int? {
        guard let tls = finishing[question] else { return nil }
        await enter()
        let loop = group.next()
        let result = loop.makePromise(of: Int?.self)
        let (step, deadline) = (TimeAmount(limits.step), NIODeadline.now() + TimeAmount(limits.host))
        let heloName = heloName
        let connection = bootstrap(on: loop, for: site)?
            .connectTimeout(step)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        FinishedProbe(
                            question, heloName: heloName, tls: tls, serverName: site.serverName,
                            stepLimit: step, deadline: deadline, result: result))
                }
            }
            .connect(to: site.address)
        guard let connection, let channel = try? await connection.get() else {
            result.succeed(nil)
            await leave()
            return nil
        }
        let outcome = try? await result.futureResult.get()
        try? await channel.closeFuture.get()
        await leave()
        return outcome ?? nil
    }

    /// From the configured source address, where it is of the same family; nil: it is no address.
    private nonisolated func bootstrap(on loop: any EventLoop, for site: Site) -> ClientBootstrap? {
        let bootstrap = ClientBootstrap(group: loop).channelOption(.tcpOption(.tcp_nodelay), value: 1)
        guard let sourceAddress, sourceAddress.contains(":") == (site.address.protocol == .inet6) else {
            return bootstrap
        }
        return (try? SocketAddress(ipAddress: sourceAddress, port: 0)).map(bootstrap.bind(to:))
    }

    private nonisolated func follow(_ start: ProbePlan, _ site: Site) async -> HostScan {
        var plan = start
        var failure: SessionFailure?
        var left = limits.host
        var generator = SystemRandomNumberGenerator()
        while let hello = plan.next() {
            await enter()
            let begun = ContinuousClock.now
            let outcome = await connect(site, hello.record(using: &generator), within: left)
            await leave()
            left -= ContinuousClock.now - begun
            switch outcome {
            case .answered(let answer): plan.received(answer)
            case .failed(let reason):
                failure = reason
                if reason.saysAll { plan.stop() } else { plan.received(.failed) }
            }
            if left <= .zero {
                failure = failure ?? SessionFailure(.timeout, step: "scan")
                plan.stop()
            }
        }
        return HostScan(report: plan.report, failure: plan.report.isComplete ? nil : failure)
    }

    private nonisolated func connect(
        _ site: Site, _ hello: [UInt8], within left: Duration
    ) async -> ProbedConnection {
        let loop = group.next()
        let result = loop.makePromise(of: ProbedConnection.self)
        let step = TimeAmount(limits.step)
        let deadline = NIODeadline.now() + TimeAmount(left)
        let heloName = heloName
        let bootstrap = bootstrap(on: loop, for: site)?
            .connectTimeout(min(step, TimeAmount(left)))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        ProbeHandler(
                            heloName: heloName, hello: hello, stepLimit: step, deadline: deadline,
                            result: result))
                }
            }
        do {
            guard let bootstrap else { throw SessionFailure(.unreachable, step: "connect") }
            let channel = try await bootstrap.connect(to: site.address).get()
            let outcome = try await result.futureResult.get()
            try? await channel.closeFuture.get()
            return outcome
        } catch {
            let failure = ProbedConnection.failed(SessionFailure(connecting: error))
            result.succeed(failure)
            return failure
        }
    }

    // MARK: The bound of all connections

    private func enter() async {
        guard free == 0 else {
            free -= 1
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    private func leave() {
        if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
    }
}

extension SessionFailure {
    /// Whether another connection would end in the same way.
    fileprivate var saysAll: Bool {
        switch code {
        case .startTLSNotOffered, .startTLSRefused, .startTLSInjection, .connectionRefused, .unreachable: true
        default: false
        }
    }
}
