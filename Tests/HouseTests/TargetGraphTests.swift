// Targets point downward only (docs/architecture.md draws the same layers).

import Foundation
import Testing

@Suite struct TargetGraphTests {
    /// The layers from the bottom up. Within a layer a target may use those named before it.
    static let layers: [[String]] = [
        ["CLibSSL", "CLibPQ", "CNGHTTP2", "CLibUnbound", "CLinux", "Migrations"],
        ["TLS", "Postgres"],
        ["Settings", "SMTP", "DNS", "HTTPClient", "Observability"],
        ["Policy", "Ledger", "Sealing"],
        ["SmartTLS"],
        ["Edge", "Delivery", "API", "Cluster"],
        ["zegel-edge", "zegel-worker", "zegel-api", "zegel"],
    ]

    /// What stands beside the layers, since tests only rest on it.
    static let forTests: Set = ["Lab", "RecipientLab", "recipient-lab", "Simulation", "simulate"]

    /// Position of a target: its layer, and its place in it.
    static let positions: [String: (layer: Int, place: Int)] = Dictionary(
        uniqueKeysWithValues: layers.enumerated().flatMap { layer, names in
            names.enumerated().map { ($1, (layer, $0)) }
        })

    private func isBelow(_ lower: String, _ upper: String) -> Bool {
        guard let low = Self.positions[lower], let high = Self.positions[upper] else { return false }
        // Roles and executables do not know one another.
        return low.layer < high.layer || (low.layer == high.layer && low.layer < 4 && low.place < high.place)
    }

    @Test func `every target has its place in the layers`() throws {
        let targets = try House.targets()
        #expect(targets.count > 20)
        for target in targets where target.kind != ".testTarget(" && !Self.forTests.contains(target.name) {
            #expect(
                Self.positions[target.name] != nil,
                "\(target.name): put it into a layer, here and in the docs")
        }
    }

    @Test func `a target depends only on those below it`() throws {
        for target in try House.targets()
        where target.kind != ".testTarget(" && !Self.forTests.contains(target.name) {
            for dependency in target.dependencies {
                #expect(isBelow(dependency, target.name), "\(target.name) depends on \(dependency)")
            }
        }
    }

    @Test func `a file imports only what its target declares`() throws {
        let targets = Dictionary(uniqueKeysWithValues: try House.targets().map { ($0.name, $0.dependencies) })
        for file in try House.files(below: "Sources", suffix: ".swift") {
            guard let target = file.target, let declared = targets[target] else { continue }
            for (number, line) in file.code {
                let words = line.split(separator: " ")
                guard let index = words.firstIndex(of: "import"), index < 2, index + 1 < words.count else {
                    continue
                }
                let module = String(words[index + 1])
                guard targets[module] != nil else { continue }
                #expect(declared.contains(module), "\(file):\(number) imports \(module)")
            }
        }
    }

    @Test func `only tests use the lab`() throws {
        for target in try House.targets() where !Self.forTests.isDisjoint(with: target.dependencies) {
            #expect(target.kind == ".testTarget(" || Self.forTests.contains(target.name), "\(target.name)")
        }
    }
}
