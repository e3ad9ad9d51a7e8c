// Asks one shard who holds tags, for all workers of this process that work on other shards. Questions that come while one is under way
// go together with the next: each is a commit of the quorum there. Where its leader does not answer its members are asked.

import Foundation
import Ledger
import Logging
import Postgres
import Synchronization

/// The way of questions to one shard.
final class ReplayDesk: Sendable {
    /// How long the leader may take for an answer; while it has none, each round of questions costs that.
    static let leaderLimit = Duration.seconds(2)
    /// How long a member may take.
    static let memberLimit = Duration.seconds(1)
    /// How long one that did not answer is passed over.
    static let passedOver = Duration.seconds(3)
    /// Two silences that lie no further apart are one.
    static let onePause = Duration.seconds(30)
    /// Most tags of one question.
    static let tagCount = 1000

    private struct Question {
        /// The tags of each message.
        let messages: [[[UInt8]]]
        let answer: CheckedContinuation<[ReplayWord], Never>
    }

    private struct State {
        var questions: [Question] = []
        var isClosed = false
        var leaderFailed: ContinuousClock.Instant?
        var memberFailed: [Int: ContinuousClock.Instant] = [:]
        /// From when on neither its leader nor members enough have answered, and when that was found last.
        var away: (since: ContinuousClock.Instant, seen: ContinuousClock.Instant)?
    }

    /// The shard's name.
    let shard: String
    private let leader: WorkLedger
    private let members: [ReplayMember]
    private let hasLeader: @Sendable () -> Bool
    private let logger: Logger
    private let state = Mutex(State())
    private let wake = Wakeup()

    /// - Parameters:
    ///   - leader: the shard, at its leader.
    ///   - members: every member of it.
    ///   - hasLeader: whether one is known.
    init(
        leader: WorkLedger, members: [ReplayMember], logger: Logger,
        hasLeader: @escaping @Sendable () -> Bool
    ) {
        shard = leader.shard
        self.leader = leader
        self.members = members
        self.hasLeader = hasLeader
        self.logger = logger
    }

    /// What the shard says of messages with these tags, in their order.
    func words(on messages: [[[UInt8]]]) async -> [ReplayWord] {
        await withCheckedContinuation { continuation in
            let isTaken = state.withLock { state in
                if !state.isClosed {
                    state.questions.append(Question(messages: messages, answer: continuation))
                }
                return !state.isClosed
            }
            if isTaken { wake.set() } else { continuation.resume(returning: Self.silence(messages.count)) }
        }
    }

    /// Makes messages of the shard stand: those that do; nil: nobody knows.
    func rely(on messages: [UUID]) async -> Set<UUID>? {
        do {
            return try await leader.relyOn(messages, limit: Self.leaderLimit)
        } catch {
            state.withLock { $0.leaderFailed = .now }
            return nil
        }
    }

    /// Asks until cancelled; what is asked after that stays without an answer.
    func run() async {
        while !Task.isCancelled {
            await wake.wait()
            while let questions = next() { await ask(questions) }
        }
        let left = state.withLock { state in
            state.isClosed = true
            defer { state.questions = [] }
            return state.questions
        }
        for question in left { question.answer.resume(returning: Self.silence(question.messages.count)) }
    }

    private static func silence(_ count: Int) -> [ReplayWord] {
        Array(repeating: .silence(isThere: false, isEnough: false), count: count)
    }

    /// As many questions as one statement takes; one alone may be longer.
    private func next() -> [Question]? {
        state.withLock { state in
            var count = 0
            let end =
                state.questions.firstIndex { question in
                    count += question.messages.reduce(0) { $0 + $1.count }
                    return count > Self.tagCount
                } ?? state.questions.count
            let taken = state.questions.prefix(max(1, end))
            state.questions.removeFirst(taken.count)
            return taken.isEmpty ? nil : Array(taken)
        }
    }

    private func ask(_ questions: [Question]) async {
        let tags = Array(Set(questions.flatMap { $0.messages.flatMap { $0 } }))
        let word = await word(on: tags)
        for question in questions { question.answer.resume(returning: question.messages.map(word)) }
    }

    /// What the shard says of each set of tags.
    private func word(on tags: [[UInt8]]) async -> @Sendable ([[UInt8]]) -> ReplayWord {
        let isTried = state.withLock { state in
            state.leaderFailed.map { ContinuousClock.now - $0 > Self.passedOver } ?? true
        }
        if hasLeader(), isTried {
            do {
                let holders = try await leader.replayHolders(of: tags, limit: Self.leaderLimit)
                state.withLock { $0.away = nil }
                return { .holders(Array(Set($0.flatMap { holders[$0] ?? [] }))) }
            } catch {
                state.withLock { $0.leaderFailed = .now }
                logger.notice(
                    "a shard does not say who holds replays: its members are asked",
                    metadata: ["shard": "\(shard)", "error": "\(error)"])
            }
        }
        let (known, isEnough) = await askMembers(tags)
        let since = state.withLock { state in
            // Between two questions that lie apart it may have been back.
            let (now, before) = (ContinuousClock.now, state.away)
            let isOne = before.map { now - $0.seen < Self.onePause } ?? false
            state.away = isEnough ? nil : (isOne ? before?.since ?? now : now, now)
            return state.away?.since
        }
        return { tags in
            .silence(isThere: tags.contains(where: known.contains), isEnough: isEnough, since: since)
        }
    }

    /// What is durable is on one member more than the quorum leaves out: all but one know of everything between them.
    private func askMembers(_ tags: [[UInt8]]) async -> (known: Set<[UInt8]>, isEnough: Bool) {
        let asked = state.withLock { state in
            members.indices.filter { index in
                state.memberFailed[index].map { ContinuousClock.now - $0 > Self.passedOver } ?? true
            }
        }
        return await withTaskGroup(of: (Int, Set<[UInt8]>?, failed: Bool).self) { group in
            for index in asked {
                group.addTask {
                    do {
                        return (
                            index, try await self.members[index].known(of: tags, limit: Self.memberLimit),
                            false
                        )
                    } catch {
                        return (index, nil, true)
                    }
                }
            }
            var known: Set<[UInt8]> = []
            var answered = 0
            for await (index, some, failed) in group {
                if failed { state.withLock { $0.memberFailed[index] = .now } }
                guard let some else { continue }
                known.formUnion(some)
                answered += 1
            }
            return (known, answered >= max(1, members.count - 1))
        }
    }
}
