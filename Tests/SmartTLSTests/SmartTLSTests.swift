// SmartTLS
