// One attempt at one delivery: route, hosts in order of preference, verdict on each, transaction. It concludes on every recipient,
// or says that it must not: when its dot was not granted, or when the content turned out damaged.

import Foundation
import Ledger
import Policy
import SMTP
import SmartTLS
import Synchronization

/// How an attempt ended.
enum AttemptEnd: Sendable {
    /// Every recipient has a conclusion. `isUnreachable`: no host of the destination could be spoken to.
    case concluded(AttemptResult, isUnreachable: Bool)
    /// The final dot was not granted: nothing was concluded, the claim goes back or is lost already.
    case withheld
    /// The content is not whole and unaltered; nothing whole has left.
    case contentBroken(ContentFault)
}

/// Whether the final dot was granted, learned by the session while it sends.
final class DotGate: Sendable {
    private let state = Mutex(false)
    private let ticket: DotTicket
    private let lease: LeaseKeeper
    private let worker: UUID

    init(ticket: DotTicket, lease: LeaseKeeper, worker: UUID) {
        self.ticket = ticket
        self.lease = lease
        self.worker = worker
    }

    /// Awaits the registration, then looks whether enough lease is left (law 7).
    func mayEnd() async -> Bool {
        let isGranted = await ticket.isGranted() && lease.maySendDot(worker)
        if !isGranted { state.withLock { $0 = true } }
        return isGranted
    }

    /// Whether the dot was refused.
    var wasWithheld: Bool { state.withLock { $0 } }
}

/// The course of one attempt.
struct DeliveryAttempt {
    /// Most connections of one attempt: two to each host of a route that names as many as are looked up (RFC 5321 §5.1).
    static let maximumConnections = 2 * RouteLimits.hosts
    /// How long an attempt begins connections and transactions on one way, the hosts of a domain or a gateway. What has begun by then
    /// goes on within the limits of its session, so that no content and no answer to it is cut off.
    static let longestWay: Duration = .seconds(900)

    private enum Obstacle {
        case failure(SessionFailure, host: String)
        case judged(HostSite)
        case capability(CapabilityProblem, HostSite)
        /// Good enough for the ruleset, and not for REQUIRETLS.
        case unproven(HostSite)
    }

    /// What stood in the way, and what follows for those that are left.
    private struct Standstill {
        var kind: RecipientResult.Kind
        var reason: ReasonCode
        var status: EnhancedStatusCode?
        var reply: SMTPReply?
        var site: HostSite?
        var host: String?
        var explanation: String?
    }

    let delivery: PreparedDelivery
    let content: OpenedContent
    let router: Router
    let opener: SessionOpener
    let rulesets: RulesetBook
    let dots: DotRegistrar
    let lease: LeaseKeeper
    let mark: NTAMark?
    /// `longestWay`, or what a test says.
    let patience: Duration

    private var open: [DeliveryFacts.Recipient]
    private var result = AttemptResult()
    private var obstacles: [Obstacle] = []
    private var isWithheld = false
    private var hasSpoken = false
    /// Hosts that were judged on an earlier way, which this one no longer asks.
    private var sitesBefore = 0
    /// When the present way was begun.
    private var begun = ContinuousClock.now
    /// The time ran out before all that there was to try was tried.
    private var isCutShort = false
    /// One registration serves every transaction of the attempt: the claim is the same.
    private var gate: DotGate?

    init(
        _ delivery: PreparedDelivery, _ content: OpenedContent, router: Router, opener: SessionOpener,
        rulesets: RulesetBook, dots: DotRegistrar, lease: LeaseKeeper, mark: NTAMark?,
        patience: Duration = DeliveryAttempt.longestWay
    ) {
        self.delivery = delivery
        self.content = content
        self.router = router
        self.opener = opener
        self.rulesets = rulesets
        self.dots = dots
        self.lease = lease
        self.mark = mark
        self.patience = patience
        open = delivery.facts.recipients
    }

    /// Runs it. `session` is the lane's open session, if there is one; what is left open is handed back in it.
    mutating func run(_ session: inout LiveSession?) async -> AttemptEnd {
        guard let ruleset = rulesets.ruleset(named: delivery.claim.ruleset) else {
            conclude(Standstill(kind: .deferred, reason: .rulesetUnknown))
            return .concluded(result, isUnreachable: false)
        }
        var route: Route?
        if let live = session {
            let now = ContinuousClock.now
            var isUsable = live.isUsable(at: now)
            if isUsable, live.needsRoute(at: now) {
                route = try? await router.route(
                    to: delivery.claim.lane, heedsNTA: ruleset.nta != nil)
                isUsable = route.map { live.isOn($0) } ?? false
                if isUsable { isUsable = await opener.stillCounts(live, under: ruleset) }
                session?.routedAt = now
            }
            if isUsable {
                result.assessed.append(live.site)
                await transact(live)
                if let end = ending() { return end }
                // The host had hung up meanwhile: it is asked anew below, as if for the first time.
                if result.recipients.isEmpty {
                    result.assessed.removeAll()
                    obstacles.removeAll()
                }
            }
            await live.session.quit()
            session = nil
        }
        let way: Route
        if let route {
            way = route
        } else {
            do {
                way = try await router.route(to: delivery.claim.lane, heedsNTA: ruleset.nta != nil)
            } catch {
                for recipient in open {
                    result.recipients.append(
                        RecipientResult(
                            number: recipient.number, kind: error.isTemporary ? .deferred : .bounced,
                            reason: error.reason, status: error.status, explanation: error.detail))
                }
                return .concluded(result, isUnreachable: false)
            }
        }
        await walk(way, ruleset, &session)
        if let end = ending() { return end }
        let standstill = standstill(way)
        if standstill.kind == .refused, case .route(let gateway) = ruleset.onInsecure {
            return await hand(to: gateway)
        }
        conclude(standstill, under: ruleset)
        return .concluded(result, isUnreachable: !hasSpoken)
    }

    /// The other way, for what no host of the domain is good enough for. Its session serves no other message: the next one asks
    /// the domain's own hosts first.
    private mutating func hand(to gateway: Gateway) async -> AttemptEnd {
        guard let ruleset = rulesets.ruleset(named: gateway.ruleset) else {
            conclude(Standstill(kind: .deferred, reason: .rulesetUnknown))
            return .concluded(result, isUnreachable: false)
        }
        let way: Route
        do {
            way = try await router.route(
                to: delivery.claim.lane, through: gateway.address, heedsNTA: ruleset.nta != nil)
        } catch {
            // What is wrong with the gateway is no answer of the recipient: it waits.
            conclude(
                Standstill(
                    kind: .deferred, reason: error.reason, host: gateway.address.host,
                    explanation: error.detail))
            return .concluded(result, isUnreachable: false)
        }
        obstacles.removeAll()
        sitesBefore = result.assessed.count
        var session: LiveSession?
        await walk(way, ruleset, &session)
        await session?.session.quit()
        if let end = ending() { return end }
        conclude(standstill(way), under: ruleset)
        return .concluded(result, isUnreachable: false)
    }

    /// Tries the hosts in order until every recipient has a conclusion.
    private mutating func walk(_ route: Route, _ ruleset: Ruleset, _ session: inout LiveSession?) async {
        var connections = 0
        (begun, isCutShort) = (.now, false)
        // The many addresses of one host leave room for every other: a domain is refused only when each of its hosts is.
        let share = max(2, Self.maximumConnections / max(1, route.hosts.count))
        for (index, host) in route.hosts.enumerated() {
            var isForegone = false
            // The same of the time: one host that hangs at each of its addresses leaves some for those behind it.
            let time = patience * (index + 1) / route.hosts.count
            for address in host.addresses.prefix(share) {
                guard connections < Self.maximumConnections else { return }
                guard connections == 0 || ContinuousClock.now - begun < time else {
                    isCutShort = true
                    break
                }
                guard lease.owns(delivery.worker), !Task.isCancelled else {
                    isWithheld = true
                    return
                }
                switch await opener.open(route, host, address, ruleset) {
                case .foregone(let site):
                    hasSpoken = true
                    // The same of each of its addresses: said once.
                    if isForegone { continue }
                    isForegone = true
                    result.assessed.append(site)
                    obstacles.append(.judged(site))
                case .failed(let failure):
                    connections += 1
                    obstacles.append(.failure(failure, host: host.name))
                case .judged(let site):
                    connections += 1
                    hasSpoken = true
                    result.assessed.append(site)
                    obstacles.append(.judged(site))
                case .open(let live):
                    connections += 1
                    hasSpoken = true
                    result.assessed.append(live.site)
                    session = live
                    await transact(live)
                    if ending() != nil { return }
                    await live.session.quit()
                    session = nil
                }
            }
        }
    }

    /// What the attempt has come to, if it is over. A 250 of an earlier transaction of it is never given away: then those that
    /// are left are put off, and the whole is a conclusion.
    private mutating func ending() -> AttemptEnd? {
        var fault: ContentFault?
        if case .stream(let stream) = content.body { fault = stream.ending.fault }
        if result.recipients.isEmpty {
            if let fault { return .contentBroken(fault) }
            if isWithheld { return .withheld }
        } else if fault != nil || isWithheld {
            conclude(
                Standstill(kind: .deferred, reason: fault != nil ? .integrityFailure : .connectionLost))
        }
        return open.isEmpty ? .concluded(result, isUnreachable: false) : nil
    }

    /// Sends to those without a conclusion; again on the same session while the host takes only some at a time (RFC 9422).
    private mutating func transact(_ live: LiveSession) async {
        if delivery.envelope.requireTLS, !live.site.findings.isProvenNextHop {
            obstacles.append(.unproven(live.site))
            return
        }
        repeat {
            let asked = open
            let gate =
                self.gate
                ?? DotGate(
                    ticket: dots.request(delivery.claim.reference, worker: delivery.worker), lease: lease,
                    worker: delivery.worker)
            self.gate = gate
            let sent = await live.session.send(
                transaction(live.session.extensions, under: live.site.verdict.ruleset),
                mayEndContent: { await gate.mayEnd() })
            if let problem = sent.problem {
                obstacles.append(.capability(problem, live.site))
                return
            }
            if gate.wasWithheld {
                isWithheld = true
                return
            }
            open.removeAll(keepingCapacity: true)
            for (index, recipient) in asked.enumerated() {
                take(sent.fate(of: index), recipient, live)
            }
            if let failure = sent.failure, !open.isEmpty {
                obstacles.append(.failure(failure, host: live.site.host))
            }
            if open.count == asked.count { return }
            if !open.isEmpty, ContinuousClock.now - begun >= patience {
                isCutShort = true
                return
            }
        } while !open.isEmpty && live.session.isReusable
    }

    private mutating func take(
        _ fate: TransactionResult.Fate, _ recipient: DeliveryFacts.Recipient, _ live: LiveSession
    ) {
        var concluded: RecipientResult
        switch fate {
        case .notAttempted:
            open.append(recipient)
            return
        case .delivered(let reply):
            concluded = RecipientResult(
                number: recipient.number, kind: .delivered, reason: live.site.verdict.reason, reply: reply)
            concluded.isReportPassedOn = live.session.extensions.dsn
        case .rejected(let reply, let isTransient):
            concluded = RecipientResult(
                number: recipient.number, kind: isTransient ? .deferred : .bounced,
                reason: isTransient ? .remoteDeferred : .remoteRejected, reply: reply)
        case .inDoubt:
            concluded = RecipientResult(number: recipient.number, kind: .inDoubt, reason: .finalDotInDoubt)
        }
        concluded.site = live.site
        result.recipients.append(concluded)
    }

    // MARK: The transaction

    private func transaction(_ extensions: EHLOExtensions, under ruleset: String) -> OutboundTransaction {
        let envelope = delivery.envelope
        var prefix = envelope.receivedLine
        // The ruleset of this way: mail that goes to a gateway under another one is not marked.
        if let mark, rulesets.ruleset(named: ruleset)?.nta != nil {
            prefix += mark.line(infrontOf: content.head)
        }
        let sender = envelope.reversePath.address
        let recipients = open.map { recipient in
            ClientRecipient(
                address: Self.wireForm(recipient.envelope.address),
                notify: recipient.envelope.notify?.parameterValue,
                originalRecipient: recipient.envelope.originalRecipient?.parameterValue)
        }
        let reversePath = sender.map(Self.wireForm) ?? ""
        let isInternational =
            !Self.isASCII(reversePath) || recipients.contains { !Self.isASCII($0.address) }
        let needsSMTPUTF8 = envelope.smtpUTF8 && (isInternational || !Self.hasASCIIHeader(content.head))
        var isEightBit = envelope.body == .eightBitMIME
        if isEightBit, !extensions.eightBitMIME, case .memory(let pieces) = content.body {
            // Declared as 8-bit and in fact ASCII: any host takes it.
            isEightBit = !pieces.allSatisfy(Self.isASCII)
        }
        return OutboundTransaction(
            envelope: ClientTransaction(
                reversePath: reversePath, recipients: recipients,
                size: Int(delivery.claim.size) + prefix.count, isEightBit: isEightBit,
                needsSMTPUTF8: needsSMTPUTF8 || isInternational, requiresTLS: envelope.requireTLS,
                envelopeID: envelope.envelopeID.map { XText.encode($0.utf8) },
                returnContent: envelope.returnContent?.parameterValue),
            content: OutboundContent(prefix: prefix, body: body))
    }

    private var body: OutboundContent.Body {
        switch content.body {
        case .memory(let pieces): .memory(pieces)
        case .stream(let stream): .stream(stream)
        }
    }

    /// An address as it is written in a command: a domain in U-labels goes as A-labels where that spares SMTPUTF8.
    private static func wireForm(_ address: MailAddress) -> String {
        guard !address.domain.isASCII, isASCII(address.localPart) else { return address.description }
        return "\(address.localPart)@\(address.lane)"
    }

    private static func isASCII(_ text: String) -> Bool { text.utf8.allSatisfy { $0 < 0x80 } }

    private static func isASCII(_ bytes: [UInt8]) -> Bool { bytes.allSatisfy { $0 < 0x80 } }

    private static func hasASCIIHeader(_ head: [UInt8]) -> Bool {
        var previous: UInt8 = 0x0A
        for byte in head {
            if byte >= 0x80 { return false }
            if byte == 0x0D, previous == 0x0A { return true }
            previous = byte
        }
        return true
    }

    // MARK: When no host took it

    /// What is without a conclusion gets one from what stood in the way. One host that may be good enough later is enough to wait
    /// for; only when every one of them was refused is the destination (design §12: refused at the first attempt then).
    private func standstill(_ route: Route) -> Standstill {
        let assessed = result.assessed.dropFirst(sitesBefore)
        var failure: (SessionFailure, String)?
        var judged: HostSite?
        var final: Standstill?
        var awaiting: Standstill?
        let refusing = Set(assessed.filter { $0.verdict.outcome == .refuse }.map(\.host))
        for obstacle in obstacles {
            switch obstacle {
            // An address that cannot be reached tells nothing new of a host that was refused at another: without IPv6 here
            // every host with both families would else be deferred until the message expires.
            case .failure(let error, let host) where error.isBeforeGreeting && refusing.contains(host):
                continue
            case .failure(let error, let host): failure = (error, host)
            case .judged(let site):
                if judged == nil || judged?.verdict.outcome == .refuse { judged = site }
            case .capability(let problem, let site):
                final = Standstill(kind: .bounced, reason: problem.reason, reply: problem.reply, site: site)
            case .unproven(let site):
                if let reason = site.findings.awaitedProof {
                    awaiting = Standstill(
                        kind: .deferred, reason: reason, site: site,
                        explanation: "REQUIRETLS was asked: \(site.findings.evidence.stsDetail ?? "")")
                    continue
                }
                final = Standstill(
                    kind: .bounced, reason: .requireTLSNotSupported, status: EnhancedStatusCode(5, 7, 30),
                    site: site, explanation: "REQUIRETLS was asked, and the host is not proven")
            }
        }
        if let (error, host) = failure {
            return Standstill(
                kind: .deferred, reason: error.reason, reply: error.reply, host: host,
                explanation: error.description)
        }
        if let gap = route.gaps.first {
            return Standstill(
                kind: .deferred, reason: gap.failure.reasonCode, host: gap.host,
                explanation: gap.failure.description)
        }
        if let waits = assessed.first(where: { $0.verdict.outcome == .defer }) {
            return Standstill(
                kind: .deferred, reason: waits.verdict.reason, site: waits,
                explanation: waits.findings.evidence.detail)
        }
        if let awaiting { return awaiting }
        if isCutShort {
            return Standstill(
                kind: .deferred, reason: final?.reason ?? judged?.verdict.reason ?? .connectionTimeout,
                site: final?.site ?? judged,
                explanation: "the time of one attempt ran out before every host was asked")
        }
        if let final { return final }
        if let judged, Verdict.overall(assessed.map(\.verdict))?.outcome == .refuse {
            return Standstill(
                kind: .refused, reason: judged.verdict.reason, site: judged,
                explanation: judged.findings.evidence.detail)
        }
        return Standstill(kind: .deferred, reason: .connectionLost)
    }

    /// Concludes on those that are left. What is refused ends only where the ruleset returns it.
    private mutating func conclude(_ standstill: Standstill, under ruleset: Ruleset? = nil) {
        var kind = standstill.kind
        if kind == .refused, let ruleset, ruleset.onInsecure != .return { kind = .deferred }
        for recipient in open {
            result.recipients.append(
                RecipientResult(
                    number: recipient.number, kind: kind, reason: standstill.reason,
                    status: standstill.status, reply: standstill.reply, site: standstill.site,
                    host: standstill.host, explanation: standstill.explanation))
        }
        open.removeAll()
    }
}

extension CapabilityProblem {
    /// The reason of a bounce.
    var reason: ReasonCode {
        switch self {
        case .tooLarge: .sizeExceeded
        case .noEightBitMIME: .eightBitNotSupported
        case .noSMTPUTF8: .smtputf8NotSupported
        case .noRequireTLS: .requireTLSNotSupported
        case .unsafeArgument: .remoteRejected
        }
    }
}
