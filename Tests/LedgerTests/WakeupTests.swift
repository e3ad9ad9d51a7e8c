// A wake-up is never lost, whether it comes before or during the wait.

import Ledger
import Testing

@Suite struct WakeupTests {
    @Test("One before the wait is kept, many are one", .timeLimit(.minutes(1)))
    func kept() async {
        let bell = Wakeup()
        bell.set()
        bell.set()
        await bell.wait()
        async let waiting: Void = bell.wait()
        bell.set()
        await waiting
    }

    @Test("Cancelling the waiting task ends its wait", .timeLimit(.minutes(1)))
    func cancelled() async {
        let bell = Wakeup()
        let task = Task { await bell.wait() }
        task.cancel()
        await task.value
    }
}
