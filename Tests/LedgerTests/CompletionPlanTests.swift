// What a batch of completions changes, decided from what the database showed under lock: the rules of law 7 as a table.

import Foundation
import Testing

@testable import Ledger

@Suite struct CompletionPlanTests {
    static let message = UUID()
    static let key = CompletionPlan.Key(message: message, number: 0)

    static func event(_ kind: EventKind, _ recipient: Int32) -> EventRow {
        EventRow(
            id: UUID(), tenant: "demo", message: message, recipient: recipient, kind: kind,
            at: Date(timeIntervalSince1970: 0))
    }

    static func completion(
        fence: Int64, _ ended: [EndedRecipient], _ step: DeliveryStep, _ events: [EventRow]
    ) -> Completion {
        Completion(
            reference: DeliveryReference(message: message, number: 0, fence: fence), deliveriesOfMessage: 1,
            tenant: "demo",
            ended: ended, step: step, events: events, shreddedEventID: UUID())
    }

    static func plan(
        _ completion: Completion, fence: Int64, isClaimed: Bool, hasDot: Bool = false, open: Int = 0,
        endedBefore: [CompletionPlan.Key: String] = [:]
    ) -> CompletionPlan {
        var current = CompletionPlan.Current(fence: fence, isClaimed: isClaimed)
        current.hasDot = hasDot
        current.openRecipients = open
        return CompletionPlan([completion], current: [key: current], endedBefore: endedBefore)
    }

    static let late = completion(
        fence: 1, [EndedRecipient(number: 0, state: .delivered)], .ends, [event(.delivered, 0)])

    @Test("A late 250 ends the delivery when nobody else is open and its new owner has no dot")
    func lateEnds() {
        let plan = Self.plan(Self.late, fence: 2, isClaimed: true, open: 1)
        #expect(plan.deletes == [Self.key])
        #expect(plan.events.map(\.kind) == [.delivered])
    }

    @Test("A late 250 for some of a claimed delivery voids the new owner's claim, unless that has a dot")
    func latePartOfClaimed() {
        #expect(Self.plan(Self.late, fence: 2, isClaimed: true, open: 2).revoked == [Self.key])
        let dotted = Self.plan(Self.late, fence: 2, isClaimed: true, hasDot: true, open: 2)
        #expect(dotted.revoked.isEmpty && dotted.deletes.isEmpty)
        #expect(dotted.events.map(\.kind) == [.delivered])
    }

    @Test("A late 250 for some of a delivery that is held or waits leaves it held or waiting")
    func latePartOfHeld() {
        let plan = Self.plan(Self.late, fence: 1, isClaimed: false, open: 2)
        #expect(plan.revoked.isEmpty && plan.deletes.isEmpty)
        #expect(plan.recipientStates.count == 1)
    }

    @Test("A recipient that a late 250 served is told of no failure by the new owner")
    func noFailureAfterDelivery() {
        let bounced = Self.completion(
            fence: 2, [EndedRecipient(number: 0, state: .bounced)], .ends,
            [Self.event(.assessed, 0), Self.event(.bounced, 0)])
        let plan = Self.plan(
            bounced, fence: 2, isClaimed: true,
            endedBefore: [CompletionPlan.Key(message: Self.message, number: 0): "delivered"])
        #expect(plan.events.map(\.kind) == [.assessed])
        #expect(plan.recipientStates.isEmpty)
        #expect(plan.deletes == [Self.key])
    }

    @Test("A second 250 to the same recipient is a duplicate, marked")
    func duplicate() {
        let again = Self.completion(
            fence: 2, [EndedRecipient(number: 0, state: .delivered)], .ends, [Self.event(.delivered, 0)])
        let plan = Self.plan(
            again, fence: 2, isClaimed: true,
            endedBefore: [CompletionPlan.Key(message: Self.message, number: 0): "delivered"])
        #expect(plan.events.map(\.kind) == [.duplicate])
        #expect(plan.events.first?.possibleDuplicate == true)
    }
}
