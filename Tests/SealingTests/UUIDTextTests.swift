// The text of ids, beside what Foundation writes.

import Foundation
import Sealing
import Testing

@Suite("Text of an id (RFC 9562 §4)") struct UUIDTextTests {
    @Test("Lower case, as Foundation writes it otherwise")
    func text() {
        for _ in 0..<100 {
            let id = UUID()
            #expect(id.lowercasedText == id.uuidString.lowercased())
        }
    }
}
