"""Where iCEFARM has its clients."""
