// swift-tools-version: 6.2
import PackageDescription

/// Targets point downward only: a target may depend on those listed above it here, never on one below.
/// `Tests/HouseTests` holds this file to that rule.

/// In CI a warning in one of our own targets is an error.
let warningsAreErrors: [SwiftSetting] =
    Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]
let strict: [SwiftSetting] = [.enableUpcomingFeature("ExistentialAny")] + warningsAreErrors

let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
    .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
]
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let embedded: [Target.Dependency] =
    nio + [
        .product(name: "NIOEmbedded", package: "swift-nio")
    ]

let package = Package(
    name: "zegel",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "zegel-edge", targets: ["zegel-edge"]),
        .executable(name: "zegel-worker", targets: ["zegel-worker"]),
        .executable(name: "zegel-api", targets: ["zegel-api"]),
        .executable(name: "zegel", targets: ["zegel"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // System libraries.
        .systemLibrary(name: "CLibSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "CLibUnbound", pkgConfig: "libunbound", providers: [.apt(["libunbound-dev"])]),
        // What Glibc's module leaves out.
        .target(name: "CLinux"),

        // Foundations: OpenSSL on NIO, libpq.
        .target(name: "TLS", dependencies: nio + ["CLibSSL"], swiftSettings: strict),
        .target(name: "Postgres", dependencies: nio + ["CLibPQ", logging], swiftSettings: strict),

        // Protocols, lookups, settings, what a node says of itself.
        .target(name: "SMTP", dependencies: nio, swiftSettings: strict),
        .target(name: "DNS", dependencies: nio + ["CLibUnbound"], swiftSettings: strict),
        .target(
            name: "HTTPClient",
            dependencies: nio + ["CNGHTTP2", "TLS", "DNS", .product(name: "NIOHTTP1", package: "swift-nio")],
            swiftSettings: strict),
        .target(
            name: "Settings", dependencies: [.product(name: "Yams", package: "Yams")],
            swiftSettings: strict),
        .target(
            name: "Observability",
            dependencies: nio + [
                "CLinux", "Settings", logging, metrics, lifecycle, arguments,
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
            ], swiftSettings: strict),

        // What a ruleset demands, all SQL, envelope encryption.
        .target(name: "Policy", dependencies: ["Settings"], swiftSettings: strict),
        .target(
            name: "Sealing",
            dependencies: nio + [
                "CLinux", crypto, .product(name: "CryptoExtras", package: "swift-crypto"), logging,
            ], swiftSettings: strict),
        .target(
            name: "Migrations", path: "migrations",
            resources: [
                .embedInCode("0001_roles.sql"), .embedInCode("0002_control.sql"),
                .embedInCode("0003_ledger.sql"),
                .embedInCode("0004_intake.sql"), .embedInCode("0005_work.sql"),
                .embedInCode("0006_evidence.sql"), .embedInCode("0007_policy_cache.sql"),
                .embedInCode("0008_edge_rights.sql"), .embedInCode("0009_host_scan.sql"),
                .embedInCode("0010_content_parts.sql"), .embedInCode("0011_regions.sql"),
                .embedInCode("0012_withdrawal.sql"), .embedInCode("0013_replays.sql"),
                .embedInCode("0014_reading.sql"),
                .embedInCode("0015_recovery.sql"),
                .embedInCode("0016_returned.sql"),
            ], swiftSettings: strict),
        .target(
            name: "Ledger",
            dependencies: nio + [
                "Postgres", "Migrations", "TLS", "DNS", "HTTPClient", "Settings", crypto,
                .product(name: "CryptoExtras", package: "swift-crypto"), logging, metrics, lifecycle,
            ],
            swiftSettings: strict),

        // Judgement of a recipient host.
        .target(
            name: "SmartTLS",
            dependencies: nio + ["TLS", "Settings", "SMTP", "DNS", "HTTPClient", "Policy", crypto],
            swiftSettings: strict),

        // Roles.
        .target(
            name: "Edge",
            dependencies: nio + [
                "CLinux", "TLS", "Postgres", "SMTP", "Settings", "Observability", "Policy", "Sealing",
                "Ledger", crypto,
                .product(name: "CryptoExtras", package: "swift-crypto"), logging, metrics, lifecycle,
            ], swiftSettings: strict),
        .target(
            name: "Delivery",
            dependencies: nio + [
                "TLS", "Postgres", "SMTP", "DNS", "Settings", "Observability", "Policy", "Sealing", "Ledger",
                "SmartTLS", logging, metrics, lifecycle,
            ], swiftSettings: strict),
        .target(
            name: "API",
            dependencies: nio + [
                "TLS", "Postgres", "SMTP", "Settings", "Observability", "Policy", "Sealing", "Ledger",
                "DNS", "SmartTLS", crypto,
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"), logging, metrics, lifecycle,
            ], swiftSettings: strict),
        .target(
            name: "Cluster",
            dependencies: nio + [
                "CLinux", "TLS", "HTTPClient", "Postgres", "SMTP", "Settings", "Observability", "Policy",
                "Sealing", "Ledger", crypto,
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "SwiftASN1", package: "swift-asn1"), logging, lifecycle,
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ], swiftSettings: strict),

        // Executables: parse arguments, read configuration, run services.
        .executableTarget(
            name: "zegel-edge", dependencies: ["Edge", "Settings", "Observability", arguments, lifecycle],
            swiftSettings: strict),
        .executableTarget(
            name: "zegel-worker",
            dependencies: ["Delivery", "Settings", "Observability", arguments, lifecycle],
            swiftSettings: strict),
        .executableTarget(
            name: "zegel-api", dependencies: ["API", "Settings", "Observability", arguments, lifecycle],
            swiftSettings: strict),
        .executableTarget(
            name: "zegel",
            dependencies: [
                "TLS", "DNS", "Policy", "SmartTLS", "API", "Ledger", "Cluster", "Settings", "Observability",
                arguments,
                logging, lifecycle,
            ],
            swiftSettings: strict),

        // Tests.
        .target(
            name: "Lab",
            dependencies: nio + [
                "CLinux", "TLS", "Postgres", "DNS", crypto,
                .product(name: "CryptoExtras", package: "swift-crypto"),
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
            ], path: "Tests/Lab", swiftSettings: strict),
        .target(
            name: "RecipientLab",
            dependencies: nio + ["SmartTLS", "TLS", "DNS", "Settings", "Policy", "Lab"],
            path: "Tests/RecipientLab", exclude: ["README.md"], swiftSettings: strict),
        .executableTarget(
            name: "recipient-lab", dependencies: ["RecipientLab"], path: "Tests/RecipientLabServer",
            swiftSettings: strict),
        .target(
            name: "Simulation",
            dependencies: nio + ["Postgres", "Policy", "SMTP", "Ledger", "Edge", "Delivery"],
            path: "Tests/Simulation", swiftSettings: strict),
        .executableTarget(
            name: "simulate", dependencies: ["Simulation"], path: "Tests/SimulationRunner",
            swiftSettings: strict),
        .testTarget(
            name: "RecipientLabTests", dependencies: ["RecipientLab", "SmartTLS", "Policy"],
            swiftSettings: strict),
        .testTarget(name: "TLSTests", dependencies: embedded + ["TLS", "Lab"], swiftSettings: strict),
        .testTarget(name: "PostgresTests", dependencies: ["Postgres", "Lab"], swiftSettings: strict),
        .testTarget(name: "SMTPTests", dependencies: embedded + ["SMTP"], swiftSettings: strict),
        .testTarget(name: "DNSTests", dependencies: ["DNS", "Lab"], swiftSettings: strict),
        .testTarget(
            name: "HTTPClientTests", dependencies: embedded + ["HTTPClient", "DNS", "TLS", "Lab"],
            swiftSettings: strict),
        .testTarget(name: "SettingsTests", dependencies: ["Settings"], swiftSettings: strict),
        .testTarget(
            name: "ObservabilityTests", dependencies: ["CLinux", "Observability"], swiftSettings: strict),
        .testTarget(name: "PolicyTests", dependencies: ["Policy"], swiftSettings: strict),
        .testTarget(
            name: "SealingTests", dependencies: nio + ["Sealing", crypto, logging], exclude: ["Vectors"],
            swiftSettings: strict),
        .testTarget(
            name: "LedgerTests", dependencies: ["Ledger", "Migrations", "Lab"], swiftSettings: strict),
        .testTarget(
            name: "SmartTLSTests",
            dependencies: embedded + ["SmartTLS", "TLS", "Settings", "SMTP", "DNS", "Policy", "Lab"],
            exclude: ["Corpus", "Evidence/Vectors"], swiftSettings: strict),
        .testTarget(
            name: "EdgeTests",
            dependencies: embedded + [
                "Edge", "Ledger", "Postgres", "SMTP", "Sealing", "Settings", "Observability", "TLS", "Lab",
                crypto,
                logging, lifecycle,
            ], swiftSettings: strict),
        .testTarget(
            name: "DeliveryTests", dependencies: embedded + ["Delivery", "Lab"], swiftSettings: strict),
        .testTarget(name: "APITests", dependencies: ["API", "Lab"], swiftSettings: strict),
        .testTarget(
            name: "ClusterTests",
            dependencies: [
                "Cluster", "Lab", "Settings", logging, .product(name: "X509", package: "swift-certificates"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: strict),
        .testTarget(
            name: "SimulationTests", dependencies: ["Simulation", "Ledger", "Postgres", "Lab"],
            swiftSettings: strict),
        .testTarget(name: "HouseTests", swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
