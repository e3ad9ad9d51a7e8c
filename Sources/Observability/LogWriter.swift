// Takes finished log lines off the threads that make them: an event loop only appends to a bounded buffer.
import Foundation
import NIOConcurrencyHelpers
import Synchronization

/// Writes bytes to a file descriptor from a thread of its own. Past its limit lines are dropped and counted.
final class LogWriter: Sendable {
    private enum Condition: Int { case idle, waiting }

    /// Bytes that may wait while the reader of our stderr is slow.
    static let limit = 4 << 20

    private let descriptor: Int32
    private let turn = ConditionLock(value: Condition.idle.rawValue)
    private let pending = Mutex<[UInt8]>([])
    private let unwritten = Mutex(0)
    private let droppedLines = Atomic<Int>(0)

    init(descriptor: Int32) {
        self.descriptor = descriptor
        let thread = Thread { [self] in
            while true { writePending() }
        }
        thread.name = "log"
        thread.stackSize = 1 << 18
        thread.start()
    }

    /// Lines that were dropped because the buffer was full.
    var dropped: Int { droppedLines.load(ordering: .relaxed) }

    func append(_ line: [UInt8]) {
        turn.lock()
        let taken = unwritten.withLock { count in
            guard count + line.count <= Self.limit else { return false }
            count += line.count
            return true
        }
        if taken {
            pending.withLock { $0.append(contentsOf: line) }
        } else {
            droppedLines.add(1, ordering: .relaxed)
        }
        turn.unlock(withValue: Condition.waiting.rawValue)
    }

    private func writePending() {
        turn.lock(whenValue: Condition.waiting.rawValue)
        let bytes = pending.withLock { waiting in
            let taken = waiting
            waiting = []
            return taken
        }
        turn.unlock(withValue: Condition.idle.rawValue)
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if written > 0 {
                rest = rest.dropFirst(written)
            } else if errno == EAGAIN {
                var poller = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = poll(&poller, 1, 1000)
            } else if errno != EINTR {
                break  // Nobody reads us any more; there is nowhere to say so.
            }
        }
        unwritten.withLock { $0 -= bytes.count }
    }

    /// Waits until all is written, at most `patience`. Only for the end of a process.
    func flush(patience: Duration) {
        let end = ContinuousClock.now + patience
        while unwritten.withLock({ $0 > 0 }), ContinuousClock.now < end { usleep(2000) }
    }
}
