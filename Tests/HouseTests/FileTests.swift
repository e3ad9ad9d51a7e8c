// Rules of the house that a machine can check, each over every file of ours.

import Foundation
import Testing

@Suite struct FileTests {
    @Test func `no Swift file exceeds 600 lines`() throws {
        for file in try House.swiftFiles() { #expect(file.lines.count <= 600, "\(file): two ideas?") }
    }

    @Test func `a file begins with a comment that says what it is for`() throws {
        for file in try House.swiftFiles() {
            let first = file.lines.first { !$0.isEmpty && !$0.contains("import ") } ?? ""
            #expect(first.hasPrefix("//") && first.count > 15, "\(file)")
        }
    }

    @Test func `a folder is a target or a concept, never a kind of code`() throws {
        let forbidden = [
            "util", "helper", "manager", "model", "common", "extension", "misc", "shared", "support",
        ]
        for file in try House.swiftFiles() {
            for part in file.path.lowercased().split(separator: "/").dropFirst() {
                #expect(!forbidden.contains { part.hasPrefix($0) || part.hasSuffix($0 + "s") }, "\(file)")
            }
        }
    }

    @Test func `SQL lives in Ledger only; Postgres makes the COPY that Ledger asks for`() throws {
        let statement = #/"(SELECT|INSERT INTO|UPDATE|DELETE FROM|COPY|CREATE|ALTER|DROP|GRANT) /#
        for file in try House.files(below: "Sources", suffix: ".swift")
        where file.target != "Ledger" && file.target != "Postgres" {
            for (number, line) in file.code {
                #expect(line.firstMatch(of: statement) == nil, "\(file):\(number)")
            }
        }
    }

    @Test func `pointers of C libraries stay in their rooms`() throws {
        let rooms: Set = ["TLS", "Postgres", "DNS", "HTTPClient"]
        for file in try House.files(below: "Sources", suffix: ".swift") {
            guard let target = file.target, !rooms.contains(target) else { continue }
            for (number, line) in file.code { #expect(!line.contains("OpaquePointer"), "\(file):\(number)") }
        }
    }

    @Test func `nothing is forced, and nothing is left unfinished`() throws {
        let words = ["try" + "!", "as" + "! ", "TO" + "DO", "FIX" + "ME", "fatal" + "Error(\"not"]
        for file in try House.swiftFiles() {
            for (index, line) in file.lines.enumerated() {
                for word in words { #expect(!line.contains(word), "\(file):\(index + 1)") }
            }
        }
    }

    @Test func `an unchecked promise to the compiler is explained where it is made`() throws {
        let promises = ["@unchecked " + "Sendable", "nonisolated" + "(unsafe)"]
        for file in try House.files(below: "Sources", suffix: ".swift") {
            let lines = file.lines
            for (index, line) in lines.enumerated() where promises.contains(where: line.contains) {
                if line.drop(while: { $0 == " " }).hasPrefix("//") { continue }
                let before = lines[max(0, index - 6)...index]
                #expect(before.contains { $0.contains("//") }, "\(file):\(index + 1)")
            }
        }
    }

    @Test func `every public declaration has a doc comment`() throws {
        let declaration =
            #/^\s*public (static |final |mutating |nonmutating |nonisolated |consuming |borrowing |override |convenience |indirect |private\(set\) |internal\(set\) )*(func|var|let|struct|enum|class|actor|protocol|init|subscript|typealias|case)\b/#
        for file in try House.files(below: "Sources", suffix: ".swift") {
            let lines = file.lines
            for (index, line) in lines.enumerated() where line.firstMatch(of: declaration) != nil {
                #expect(comment(above: index, in: lines).hasPrefix("///"), "\(file):\(index + 1): \(line)")
            }
        }
    }

    /// The line above a declaration and above its attributes, which may take several lines each.
    private func comment(above index: Int, in lines: [Substring]) -> Substring {
        var above = index - 1
        func text() -> Substring { above >= 0 ? lines[above].drop { $0 == " " } : "" }
        while above >= 0 {
            if text().hasPrefix("@") || text().hasPrefix("#if") {
                above -= 1
            } else if text().hasSuffix(")"), !text().hasPrefix("//"),
                let start = lines[..<above].lastIndex(where: { $0.drop { $0 == " " }.hasPrefix("@") }),
                above - start < 8
            {
                above = start - 1
            } else {
                break
            }
        }
        return text()
    }
}
