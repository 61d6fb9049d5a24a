from dialgate.interfaces.cli import main

if __name__ == "__main__":
    main()
