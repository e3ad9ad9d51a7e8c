// The resolver: questions come in from any task, one thread owns libunbound and answers them. No event loop and
// no thread of the concurrency pool ever waits here: callers are suspended. Bounds: questions under way, questions
// waiting, a deadline for each (law 9).
import CLibUnbound
import Foundation
import Synchronization

/// Validated lookups through libunbound. Freed with its last reference; what is then under way fails.
public final class UnboundResolver: DNSResolving {
    private let mailbox: Mailbox
    private let deadline: Duration

    /// Sets up libunbound and starts its thread.
    ///
    /// - Throws: `DNSConfigurationError` when the settings cannot hold (unreadable anchor, bad forwarder).
    public init(_ configuration: DNSConfiguration) throws(DNSConfigurationError) {
        let context = try UnboundContext(configuration)
        guard let mailbox = Mailbox(capacity: configuration.waitingQueries) else {
            throw DNSConfigurationError(reason: "no file descriptor left for the resolver")
        }
        self.mailbox = mailbox
        self.deadline = configuration.queryDeadline
        UnboundThread.start(context, mailbox, limit: configuration.concurrentQueries)
    }

    deinit { mailbox.close() }

    /// Asks; aliases are followed, the answer is validated when a trust anchor is configured.
    ///
    /// - Throws: `DNSFailure`, at the latest when the deadline of a query passes.
    public func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        guard !Task.isCancelled else { throw DNSFailure(.cancelled, "the caller gave up") }
        let identifier = mailbox.nextIdentifier()
        let ends = ContinuousClock.now + deadline
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let question = Question(
                    identifier: identifier, name: name.text + (name == .root ? "" : "."), type: type,
                    ends: ends,
                    continuation: continuation)
                mailbox.post(question)
            }
        } onCancel: {
            mailbox.cancel(identifier)
        }
        return try UnboundResolver.answer(name, type, result.get())
    }

    private static func answer(
        _ name: DomainName, _ type: DNSRecordType, _ result: UnboundResult
    ) throws(DNSFailure) -> DNSAnswer {
        let question = "\(name) \(type)"
        guard result.error == 0 else {
            throw DNSFailure(
                result.error == UB_SERVFAIL.rawValue ? .servfail : .resolverFailed,
                "\(question): \(String(cString: ub_strerror(result.error)))")
        }
        if result.isBogus {
            throw DNSFailure(.bogus, result.whyBogus ?? "\(question): validation failed")
        }
        // An answer that libunbound cannot put into 64 KB loses all of its records and keeps its response code: it looks like an
        // absence, and a secure one where the zone is signed.
        guard !result.isTruncated else {
            throw DNSFailure(.truncated, "\(question): the answer does not fit into a message")
        }
        let outcome: DNSAnswer.Outcome
        switch result.rcode {
        case 0 where result.records.isEmpty: outcome = result.isNXDomain ? .nxdomain : .nodata
        case 0:
            var records: [DNSRecord] = []
            for data in result.records { records.append(try DNSRecord(type: type, data: data)) }
            outcome = .records(records)
        case 3: outcome = .nxdomain
        case 2: throw DNSFailure(.servfail, "\(question): the servers failed or could not be reached")
        case 5: throw DNSFailure(.refused, "\(question): the servers refuse to answer")
        default: throw DNSFailure(.otherResponseCode, "\(question): response code \(result.rcode)")
        }
        var canonical: DomainName?
        if let text = result.canonicalName {
            canonical = try? DomainName(text)
            // libunbound writes `?` for octets that no host name has. Records may lie at such a name too: it is in the message.
            if canonical == nil {
                canonical = try DNSMessage(result.packet).outcome(of: name, type)?.canonicalName
            }
            if canonical == nil {
                throw DNSFailure(.malformed, "\(question): an alias that leads to no name")
            }
        }
        return DNSAnswer(
            name: name, type: type, outcome: outcome, canonicalName: canonical,
            security: result.isSecure ? .secure : .insecure, ttl: result.ttl,
            packet: result.packet)
    }
}

/// One question on its way to the thread.
struct Question: Sendable {
    let identifier: UInt64
    let name: String
    let type: DNSRecordType
    let ends: ContinuousClock.Instant
    let continuation: CheckedContinuation<Result<UnboundResult, DNSFailure>, Never>
}

/// What tasks leave for the thread, and the descriptor that wakes it. Bounded.
final class Mailbox: Sendable {
    struct Letters {
        var questions: [Question] = []
        var cancelled: [UInt64] = []
        var isClosed = false
    }

    private let letters = Mutex(Letters())
    private let identifiers = Atomic<UInt64>(0)
    private let capacity: Int
    /// Readable when there is a letter.
    let wakeDescriptor: Int32

    init?(capacity: Int) {
        let descriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        guard descriptor >= 0 else { return nil }
        self.wakeDescriptor = descriptor
        self.capacity = capacity
    }

    deinit { _ = Glibc.close(wakeDescriptor) }

    func nextIdentifier() -> UInt64 {
        identifiers.add(1, ordering: .relaxed).newValue
    }

    func post(_ question: Question) {
        let refusal: DNSFailure? = letters.withLock {
            if $0.isClosed { return DNSFailure(.resolverFailed, "the resolver is shut down") }
            if $0.questions.count >= capacity { return DNSFailure(.overloaded, "too many questions wait") }
            $0.questions.append(question)
            return nil
        }
        if let refusal {
            question.continuation.resume(returning: .failure(refusal))
        } else {
            wake()
        }
    }

    func cancel(_ identifier: UInt64) {
        letters.withLock { $0.cancelled.append(identifier) }
        wake()
    }

    func close() {
        letters.withLock { $0.isClosed = true }
        wake()
    }

    /// Takes up to `room` questions, and all the rest.
    func take(room: Int) -> Letters {
        var count: UInt64 = 0
        _ = read(wakeDescriptor, &count, 8)
        return letters.withLock {
            let taken = Letters(
                questions: Array($0.questions.prefix(room)), cancelled: $0.cancelled, isClosed: $0.isClosed)
            $0.questions.removeFirst(taken.questions.count)
            $0.cancelled.removeAll()
            return taken
        }
    }

    /// Takes out a question that nobody has begun with.
    func removeWaiting(_ identifier: UInt64) -> Question? {
        letters.withLock { letters in
            letters.questions.firstIndex { $0.identifier == identifier }.map {
                letters.questions.remove(at: $0)
            }
        }
    }

    /// Takes out the questions past their deadline. All have the same patience, so the oldest come first.
    func removeExpired(at now: ContinuousClock.Instant) -> [Question] {
        letters.withLock { letters in
            let expired = letters.questions.prefix { $0.ends <= now }
            letters.questions.removeFirst(expired.count)
            return Array(expired)
        }
    }

    /// The earliest deadline of those waiting.
    func earliestDeadline() -> ContinuousClock.Instant? {
        letters.withLock { $0.questions.first?.ends }
    }

    private func wake() {
        var one: UInt64 = 1
        _ = write(wakeDescriptor, &one, 8)
    }
}
