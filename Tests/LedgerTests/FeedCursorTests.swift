// The cursor as text: what was written is read, and nothing else is.
import Foundation
import Testing

@testable import Ledger

@Suite("Feed cursor")
struct FeedCursorTests {
    private static func some(_ shards: Int) -> FeedCursor {
        FeedCursor(
            Dictionary(
                uniqueKeysWithValues: (0..<shards).map { n in
                    (
                        "shard-\(n)",
                        FeedPosition(incarnation: UUID(), arrived: UInt64.random(in: 0 ... .max), id: UUID())
                    )
                }))
    }

    @Test(
        "a cursor reads as it was written, in letters that need no escape in a URL", arguments: [0, 1, 2, 20])
    func roundTrip(shards: Int) throws {
        for _ in 0..<50 {
            let cursor = Self.some(shards)
            #expect(try FeedCursor(cursor.text) == cursor)
            #expect(cursor.text.wholeMatch(of: /[A-Za-z0-9_-]+/) != nil)
        }
    }

    @Test("empty text is the start of the feed")
    func start() throws {
        #expect(try FeedCursor("").positions.isEmpty)
        #expect(try FeedCursor(FeedCursor().text).positions.isEmpty)
    }

    @Test("every cut of a cursor is refused")
    func truncated() {
        let text = Self.some(2).text
        for length in 1..<text.count {
            #expect(throws: FeedCursor.Malformed.self, "\(length)") {
                try FeedCursor(String(text.prefix(length)))
            }
        }
    }

    @Test("a cursor with one letter changed is refused")
    func altered() {
        let text = Array(Self.some(1).text)
        for place in text.indices.dropLast() {
            var other = text
            other[place] = other[place] == "A" ? "B" : "A"
            #expect(throws: FeedCursor.Malformed.self, "\(place)") { try FeedCursor(String(other)) }
        }
    }

    @Test(
        "what is no cursor is refused",
        arguments: [
            "x", "AAAA", "../../etc/passwd", "%41", "AQ==", "é", String(repeating: "A", count: 20_000), "0",
            "-1",
        ])
    func garbage(text: String) {
        #expect(throws: FeedCursor.Malformed.self) { try FeedCursor(text) }
    }
}
