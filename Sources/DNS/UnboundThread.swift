// The thread that owns a libunbound context: it starts lookups, takes their results, ends those whose deadline
// passed or whose caller left, and sleeps in poll() between. Ends when the mailbox is closed.
import CLibUnbound
import Foundation

/// The loop and its state; lives on its own thread only.
final class UnboundThread {
    private struct Lookup {
        let question: Question
        let query: UnboundQuery
    }

    private let context: UnboundContext
    private let mailbox: Mailbox
    private let limit: Int
    private var underWay: [UInt64: Lookup] = [:]

    private init(context: UnboundContext, mailbox: Mailbox, limit: Int) {
        self.context = context
        self.mailbox = mailbox
        self.limit = limit
    }

    /// Starts the thread, which takes the context over: nobody else may touch it from here on.
    static func start(_ context: consuming UnboundContext, _ mailbox: Mailbox, limit: Int) {
        // Handed over once and then only used on the new thread, which is why the compiler's check is waived.
        nonisolated(unsafe) let owned = UnboundThread(context: context, mailbox: mailbox, limit: limit)
        let thread = Thread { owned.run() }
        thread.name = "dns"
        thread.start()
    }

    private func run() {
        while true {
            let letters = mailbox.take(room: limit - underWay.count)
            if letters.isClosed { return end(letters.questions) }
            for identifier in letters.cancelled { cancel(identifier) }
            for question in letters.questions where !letters.cancelled.contains(question.identifier) {
                begin(question)
            }
            for question in letters.questions where letters.cancelled.contains(question.identifier) {
                finish(question, .failure(DNSFailure(.cancelled, "the caller gave up")))
            }
            expire()
            wait()
            for query in context.process() { finish(query) }
        }
    }

    private func begin(_ question: Question) {
        guard let query = context.start(question.identifier, name: question.name, type: question.type) else {
            return finish(question, .failure(DNSFailure(.resolverFailed, "libunbound takes no question")))
        }
        underWay[question.identifier] = Lookup(question: question, query: query)
    }

    private func finish(_ query: UnboundQuery) {
        guard let lookup = underWay.removeValue(forKey: query.identifier) else { return }
        finish(lookup.question, .success(query.result ?? UnboundResult(error: UB_SERVFAIL.rawValue)))
    }

    private func finish(_ question: Question, _ result: Result<UnboundResult, DNSFailure>) {
        question.continuation.resume(returning: result)
    }

    private func cancel(_ identifier: UInt64) {
        let failure = DNSFailure(.cancelled, "the caller gave up")
        if let lookup = underWay.removeValue(forKey: identifier) {
            context.cancel(lookup.query)
            finish(lookup.question, .failure(failure))
        } else {
            if let question = mailbox.removeWaiting(identifier) { finish(question, .failure(failure)) }
        }
    }

    private func expire() {
        let now = ContinuousClock.now
        for (identifier, lookup) in underWay where lookup.question.ends <= now {
            underWay.removeValue(forKey: identifier)
            context.cancel(lookup.query)
            finish(lookup.question, .failure(timeout(lookup.question)))
        }
        for question in mailbox.removeExpired(at: now) {
            finish(question, .failure(timeout(question)))
        }
    }

    private func timeout(_ question: Question) -> DNSFailure {
        DNSFailure(.timeout, "\(question.name) \(question.type): no answer in time")
    }

    private func wait() {
        let deadlines = underWay.values.map(\.question.ends) + [mailbox.earliestDeadline()].compactMap { $0 }
        var milliseconds: Int32 = -1
        if let next = deadlines.min() {
            let left = ContinuousClock.now.duration(to: next) / .milliseconds(1)
            milliseconds = Int32(max(0, min(left.rounded(.up), 60_000)))
        }
        var descriptors = [
            pollfd(fd: context.fileDescriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: mailbox.wakeDescriptor, events: Int16(POLLIN), revents: 0),
        ]
        _ = poll(&descriptors, 2, milliseconds)
    }

    private func end(_ questions: [Question]) {
        let failure = DNSFailure(.resolverFailed, "the resolver is shut down")
        for lookup in underWay.values {
            context.cancel(lookup.query)
            finish(lookup.question, .failure(failure))
        }
        underWay.removeAll()
        let waiting = mailbox.take(room: .max).questions
        for question in questions + waiting { finish(question, .failure(failure)) }
    }
}
