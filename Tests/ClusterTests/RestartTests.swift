// The rules by which children are started again and ended.

import Testing

@testable import Cluster

@Suite("A child that ends is started again, but never in a storm")
struct RestartTests {
    @Test("pauses double from the first to the limit, and a long life is forgiven")
    func backoff() {
        var backoff = RestartBackoff(
            first: .milliseconds(200), limit: .seconds(5), forgiveAfter: .seconds(10))
        let pauses = (0..<7).map { _ in backoff.pause(afterLifeOf: .zero) }
        #expect(
            pauses == [
                .milliseconds(200), .milliseconds(400), .milliseconds(800), .milliseconds(1600),
                .milliseconds(3200), .seconds(5), .seconds(5),
            ])
        #expect(backoff.pause(afterLifeOf: .seconds(10)) == .milliseconds(200))
        for _ in 0..<100 { #expect(backoff.pause(afterLifeOf: .zero) <= .seconds(5)) }
    }

    @Test("ended by itself: waits, then starts again")
    func restart() {
        var child = ChildState(backoff: RestartBackoff(first: .seconds(1)))
        #expect(child.start() == .start)
        #expect(child.started(pid: 7, at: .seconds(0)) == .none)
        #expect(child.pid == 7)
        #expect(child.exited(at: .seconds(2)) == .wake(at: .seconds(3)))
        #expect(child.pid == nil)
        #expect(child.timeCame(at: .milliseconds(2500)) == .wake(at: .seconds(3)))
        #expect(child.timeCame(at: .seconds(3)) == .start)
        #expect(child.started(pid: 8, at: .seconds(3)) == .none)
        #expect(child.starts == 2)
    }

    @Test("asked to stop: terminated, killed after its grace, never started again")
    func stop() {
        var child = ChildState()
        _ = child.start()
        _ = child.started(pid: 7, at: .zero)
        #expect(child.stop(at: .seconds(1), grace: .seconds(4)) == .terminate(pid: 7, wakeAt: .seconds(5)))
        #expect(child.stop(at: .seconds(2), grace: .seconds(9)) == .none)
        #expect(child.timeCame(at: .seconds(4)) == .wake(at: .seconds(5)))
        #expect(child.timeCame(at: .seconds(5)) == .kill(pid: 7))
        #expect(child.exited(at: .seconds(5)) == .finish)
        #expect(child.start() == .none)
    }

    @Test("asked to stop while it waits or starts")
    func stopBetween() {
        var waiting = ChildState()
        _ = waiting.start()
        _ = waiting.failedToStart(at: .zero)
        #expect(waiting.stop(at: .zero, grace: .seconds(1)) == .finish)
        #expect(waiting.timeCame(at: .seconds(9)) == .none)

        var starting = ChildState()
        _ = starting.start()
        #expect(starting.stop(at: .zero, grace: .seconds(1)) == .none)
        #expect(starting.started(pid: 9, at: .seconds(2)) == .terminate(pid: 9, wakeAt: .seconds(3)))

        var failing = ChildState()
        _ = failing.start()
        _ = failing.stop(at: .zero, grace: .seconds(1))
        #expect(failing.failedToStart(at: .seconds(1)) == .finish)
    }
}
