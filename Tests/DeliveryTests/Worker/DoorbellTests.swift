// The doorbell and the tickets of final dots: no ring and no answer is lost, whoever comes first.

import Testing

@testable import Delivery

@Suite struct DoorbellTests {
    @Test("A ring before the wait is kept, many are one", .timeLimit(.minutes(1)))
    func kept() async {
        let bell = WakeSignal()
        bell.ring()
        bell.ring()
        await bell.wait()
        async let waiting: Void = bell.wait()
        bell.ring()
        await waiting
    }

    @Test("Cancelling the waiting task ends its wait", .timeLimit(.minutes(1)))
    func cancelled() async {
        let bell = WakeSignal()
        let task = Task { await bell.wait() }
        task.cancel()
        await task.value
    }
}
