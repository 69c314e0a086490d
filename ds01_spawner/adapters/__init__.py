"""All that touches Docker, NVML, SQL, the file system or HTTP; foreign errors are translated here."""
