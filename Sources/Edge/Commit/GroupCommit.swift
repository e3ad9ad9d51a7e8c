// Group commit as a value: which rows go into the next transaction, and what each outcome means for whom (design §7).
//
// One transaction is under way at a time; everything that is ready when it comes back goes into the next. A batch that fails on its
// data is halved until the row at fault stands alone. A commit whose outcome is not known, or not durable, is settled: the
// same rows are submitted again until they are durable or `settle` has passed; then they are withdrawn.

import Foundation
import Ledger
import Postgres

/// The state of one shard's group commit. Time comes in as an argument; rows are answered by their tokens.
struct GroupCommit: ~Copyable {
    /// What to do now. One at a time: the result comes back through `finished`.
    enum Action {
        case commit(IntakeBatch)
        case resubmit(IntakeBatch)
        case replay(tag: [UInt8])
        case withdraw([UUID])
        /// Nothing before this moment.
        case wait(until: ContinuousClock.Instant)
        /// Nothing until something is submitted.
        case idle
    }

    /// What came of an action.
    enum Result {
        case commit(IntakeOutcome)
        /// The first message with that tag; nil: none (any more). A failure is a try that says nothing.
        case replay(Swift.Result<UUID?, any Error>)
        /// Of the withdrawn ids: those that stand all the same.
        case withdraw(standing: Set<UUID>)
    }

    /// Limits of law 9.
    struct Limits {
        var batchCount = 256
        var batchBytes = 8 << 20
        /// Bytes waiting beyond which nothing more is taken.
        var queueBytes = 64 << 20
        var queueCount = 10_000
        var settle: Duration = .seconds(60)
        var acknowledgedTags = 20_000
    }

    enum Row {
        case message(MessageRow)
        case upload(UploadRow)
        case rejection(RejectionRow)

        var bytes: Int {
            switch self {
            case .message(let row): row.frames.reduce(row.sealedEnvelope.count + 512) { $0 + $1.count }
            case .upload(let row): row.frames.reduce(64) { $0 + $1.count }
            case .rejection: 128
            }
        }
    }

    struct Submission {
        let token: Int
        let row: Row
        let since: ContinuousClock.Instant
    }

    private struct Part {
        var submissions: [Submission]
        /// An earlier commit of these rows may have happened.
        var inDoubt = false
        var attempts = 0
    }

    private enum Work {
        case none
        case commit(Part)
        case replay(Submission)
        case withdraw(Part)
    }

    private let limits: Limits
    private var queue: [Submission] = []
    private var queueStart = 0
    private var queuedBytes = 0
    /// Parts of a batch that was split or must be tried again, last first.
    private var parts: [Part] = []
    private var work: Work = .none
    private var pauseUntil: ContinuousClock.Instant?
    private var pendingKeys: [BatchKeyRow] = []
    private var pendingTags: [[UInt8]] = []
    private var sentKeys: [BatchKeyRow] = []
    private var sentTags: [[UInt8]] = []
    private var flushTags = false
    private(set) var answers: [(token: Int, answer: IntakeAnswer)] = []

    init(_ limits: Limits) { self.limits = limits }

    /// Rows that wait or are under way.
    var depth: Int { queue.count - queueStart + parts.reduce(0) { $0 + $1.submissions.count } }

    /// Takes one row in. False: past the limit, answer 452.
    mutating func submit(_ row: Row, token: Int, now: ContinuousClock.Instant) -> Bool {
        let bytes = row.bytes
        if queuedBytes + bytes > limits.queueBytes && queuedBytes > 0 { return false }
        if queue.count - queueStart >= limits.queueCount { return false }
        queuedBytes += bytes
        queue.append(Submission(token: token, row: row, since: now))
        return true
    }

    /// A client has shown that it got its 250: the same bytes again are a new message.
    mutating func acknowledge(tag: [UInt8]) {
        if pendingTags.count < limits.acknowledgedTags { pendingTags.append(tag) }
    }

    /// Tags are due although nothing else is.
    mutating func flush() { flushTags = true }

    /// Batch keys that later rows are sealed under.
    mutating func add(keys: [BatchKeyRow]) { pendingKeys.append(contentsOf: keys) }

    /// Takes the answers that are due.
    mutating func takeAnswers() -> [(token: Int, answer: IntakeAnswer)] {
        let due = answers
        answers = []
        return due
    }

    // MARK: Next

    /// What to do next. Call only when nothing is under way.
    mutating func next(now: ContinuousClock.Instant) -> Action {
        switch work {
        case .none: break
        case .commit(let part): return action(for: part)
        case .replay(let submission):
            if case .message(let row) = submission.row, let tag = row.replayTag { return .replay(tag: tag) }
            work = .none
        case .withdraw(let part): return .withdraw(part.submissions.compactMap(\.messageID))
        }
        if let pause = pauseUntil {
            if now < pause { return .wait(until: pause) }
            pauseUntil = nil
        }
        if let part = parts.popLast() {
            begin(part)
            return action(for: part)
        }
        if queueStart < queue.count {
            let part = Part(submissions: takeBatch())
            begin(part)
            return action(for: part)
        }
        if !pendingKeys.isEmpty || (flushTags && !pendingTags.isEmpty) {
            let part = Part(submissions: [])
            begin(part)
            return action(for: part)
        }
        flushTags = false
        return .idle
    }

    private mutating func begin(_ part: Part) {
        work = .commit(part)
        sentKeys = pendingKeys
        sentTags = pendingTags
        pendingKeys = []
        pendingTags = []
        flushTags = false
    }

    private mutating func takeBatch() -> [Submission] {
        var taken: [Submission] = []
        var bytes = 0
        while queueStart < queue.count, taken.count < limits.batchCount {
            let size = queue[queueStart].row.bytes
            if !taken.isEmpty && bytes + size > limits.batchBytes { break }
            bytes += size
            queuedBytes -= size
            taken.append(queue[queueStart])
            queueStart += 1
        }
        if queueStart == queue.count {
            queue.removeAll(keepingCapacity: true)
            queueStart = 0
        } else if queueStart > 1024 {
            queue.removeFirst(queueStart)
            queueStart = 0
        }
        return taken
    }

    private func action(for part: Part) -> Action {
        var batch = IntakeBatch()
        batch.batchKeys = sentKeys
        batch.acknowledgedTags = sentTags
        for submission in part.submissions {
            switch submission.row {
            case .message(let row): batch.messages.append(row)
            case .upload(let row): batch.uploads.append(row)
            case .rejection(let row): batch.rejections.append(row)
            }
        }
        return part.inDoubt ? .resubmit(batch) : .commit(batch)
    }

    // MARK: Results

    /// The result of the action that `next` gave.
    mutating func finished(_ result: Result, now: ContinuousClock.Instant) {
        let was = work
        work = .none
        switch (was, result) {
        case (.commit(let part), .commit(let outcome)): committed(part, outcome, now)
        case (.replay(let submission), .replay(let answer)): replayed(submission, answer, now)
        case (.withdraw(let part), .withdraw(let standing)):
            for submission in part.submissions {
                if let id = submission.messageID, standing.contains(id) {
                    answers.append((submission.token, .accepted(id)))
                } else {
                    answers.append((submission.token, .tryAgain(reason: "outcome-unknown")))
                }
            }
        default: work = was
        }
    }

    private mutating func committed(_ part: Part, _ outcome: IntakeOutcome, _ now: ContinuousClock.Instant) {
        if case .durable = outcome {
            sentKeys = []
            sentTags = []
            for submission in part.submissions { answers.append((submission.token, submission.success)) }
            return
        }
        // Not committed for certain: they go with the next transaction (both tolerate a repetition).
        pendingKeys = sentKeys + pendingKeys
        pendingTags = sentTags + pendingTags
        sentKeys = []
        sentTags = []
        switch outcome {
        case .durable: break
        case .notDurable, .inDoubt:
            // Frames in doubt are not worth settling: their client repeats the whole message.
            for submission in part.submissions where submission.messageID == nil {
                answers.append((submission.token, .tryAgain(reason: "upload-lost")))
            }
            let messages = part.submissions.filter { $0.messageID != nil }
            again(Part(submissions: messages, inDoubt: true, attempts: part.attempts + 1), now)
        case .unavailable(let error):
            if !part.inDoubt, error.sqlState?.hasPrefix("53") == true {
                for submission in part.submissions {
                    answers.append((submission.token, .insufficientStorage))
                }
                pauseUntil = now + .milliseconds(200)
            } else {
                again(
                    Part(submissions: part.submissions, inDoubt: part.inDoubt, attempts: part.attempts + 1),
                    now)
            }
        case .atFault(let error): atFault(part, error, now)
        }
    }

    /// Tries a part again after a pause, or gives up on those of its rows that have waited longest.
    private mutating func again(_ part: Part, _ now: ContinuousClock.Instant) {
        let overdue = part.submissions.filter { now - $0.since >= limits.settle }
        let rest = part.submissions.filter { now - $0.since < limits.settle }
        if !rest.isEmpty {
            parts.append(Part(submissions: rest, inDoubt: part.inDoubt, attempts: part.attempts))
        }
        if !overdue.isEmpty {
            if part.inDoubt {
                work = .withdraw(Part(submissions: overdue, inDoubt: true))
            } else {
                for submission in overdue {
                    answers.append((submission.token, .tryAgain(reason: "ledger-unavailable")))
                }
            }
        }
        let pause = min(1 << min(part.attempts, 6), 40) * 25
        pauseUntil = now + .milliseconds(pause)
    }

    private mutating func atFault(_ part: Part, _ error: PostgresError, _ now: ContinuousClock.Instant) {
        if part.submissions.count > 1 {
            let half = part.submissions.count / 2
            parts.append(Part(submissions: Array(part.submissions[half...]), inDoubt: part.inDoubt))
            parts.append(Part(submissions: Array(part.submissions[..<half]), inDoubt: part.inDoubt))
            return
        }
        guard let submission = part.submissions.first else {
            // Keys or tags alone: a key that is there already. They are no row's fault.
            pendingKeys.removeAll()
            return
        }
        if IntakeLedger.isReplay(error) {
            work = .replay(submission)
        } else if IntakeLedger.isRepeatedID(error) {
            // Its own earlier commit was slower than our doubt, or a batch key is there already.
            again(Part(submissions: [submission], inDoubt: true, attempts: part.attempts + 1), now)
        } else {
            answers.append(
                (
                    submission.token,
                    .tryAgain(reason: error.sqlState == "ZG001" ? "upload-lost" : "ledger-refused")
                ))
        }
    }

    private mutating func replayed(
        _ submission: Submission, _ answer: Swift.Result<UUID?, any Error>, _ now: ContinuousClock.Instant
    ) {
        switch answer {
        case .success(let first?):
            answers.append(
                (submission.token, first == submission.messageID ? .accepted(first) : .replayed(first)))
        case .success(nil):
            // Acknowledged or withdrawn in between: it is a new message after all.
            parts.append(Part(submissions: [submission], inDoubt: false))
        case .failure:
            if now - submission.since >= limits.settle {
                answers.append((submission.token, .tryAgain(reason: "outcome-unknown")))
            } else {
                work = .replay(submission)
                pauseUntil = now + .milliseconds(100)
            }
        }
    }
}

extension GroupCommit.Submission {
    var messageID: UUID? {
        if case .message(let row) = row { return row.id }
        return nil
    }

    var success: IntakeAnswer {
        switch row {
        case .message(let row): .accepted(row.id)
        case .upload, .rejection: .stored
        }
    }
}
